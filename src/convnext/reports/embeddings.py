"""Files of embeddings: Parquet, or NumPy's array beside a list of paths. Written row by row, never held whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convnext.errors import InputError
from convnext.storage.files import whole_file

ROW_GROUP = 4096
"""Rows of a Parquet file, at least, that are read and written together."""


class EmbeddingRows(NamedTuple):
    """Some images' paths, and their embeddings, float32 `[n, width]`."""

    paths: list[str]
    embeddings: np.ndarray


def files_of(out: Path) -> list[Path]:
    """The files that embeddings written to `out` make. `InputError` for another kind than .parquet and .npy."""
    if out.suffix == ".parquet":
        return [out]
    if out.suffix == ".npy":
        return [out.with_suffix(".txt"), out]
    raise InputError(f"{out}: embeddings are written as .parquet or .npy; choose a name that ends so")


def refuse_lines(out: Path, paths: Iterable[str]) -> None:
    """`InputError` for a path that a list of one path a line cannot hold."""
    broken = next((path for path in paths if "\n" in path or "\r" in path), None) if out.suffix == ".npy" else None
    if broken is not None:
        raise InputError(f"{broken!r} has a line end in its name, which a list of paths cannot hold; write .parquet")


def write_embeddings(out: Path, parts: Iterable[EmbeddingRows], *, count: int, width: int) -> None:
    """Write all `count` rows of `parts`, whole or not at all.

    A Parquet file has the columns `path` and `embedding`, a list of `width` floats. An .npy file holds float32
    `[count, width]`, and the .txt file beside it the paths, one a line.
    """
    with ExitStack() as stack:
        temporary = [stack.enter_context(whole_file(file)) for file in files_of(out)]
        if out.suffix == ".parquet":
            _write_parquet(temporary[0], parts, width)
        else:
            _write_array(temporary[0], temporary[1], parts, count, width)


def _write_parquet(path: Path, parts: Iterable[EmbeddingRows], width: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float32(), width)
    schema = pa.schema([("path", pa.string()), ("embedding", kind)])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for paths, embeddings in _row_groups(parts):
            values: Any = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), width)
            # Names of files need not be text, but Parquet's strings do.
            texts = [path.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for path in paths]
            writer.write_table(pa.table([pa.array(texts, pa.string()), values], schema=schema))


def _row_groups(parts: Iterable[EmbeddingRows]) -> Iterator[EmbeddingRows]:
    """Parts joined until they have `ROW_GROUP` rows."""
    waiting: list[EmbeddingRows] = []
    for part in parts:
        waiting.append(part)
        if sum(len(each.paths) for each in waiting) >= ROW_GROUP:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: Sequence[EmbeddingRows]) -> EmbeddingRows:
    return EmbeddingRows(
        [path for part in parts for path in part.paths], np.concatenate([part.embeddings for part in parts])
    )


def _write_array(names: Path, array: Path, parts: Iterable[EmbeddingRows], count: int, width: int) -> None:
    # Not `open_memmap`: the pages of a mapped file would count as this process's memory.
    form = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False}
    with (
        open(names, "w", encoding="utf-8", errors="surrogateescape") as lines,
        open(array, "wb") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {**form, "shape": (count, width)})
        for paths, embeddings in parts:
            lines.writelines(f"{path}\n" for path in paths)
            file.write(np.ascontiguousarray(embeddings).tobytes())
