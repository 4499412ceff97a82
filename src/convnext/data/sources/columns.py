"""Images that lie in columns of tables: Parquet with the bytes of images, and data sets that `datasets` saved to disk.

FILE.parquet   FOLDER/data/train-00000-of-00001.parquet   FOLDER/train/data-00000-of-00001.arrow
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from convnext.data.images.decode import read_bytes
from convnext.data.sources.finder import children, part_folders, part_said, settled_parts
from convnext.data.sources.records import (
    DataListing,
    ImageRecord,
    class_name,
    concatenated,
    in_class_order,
    shuffled_groups,
)
from convnext.data.splits import UNDIVIDED
from convnext.errors import ImageError, InputError

GROUPS_KEPT = 4
"""Groups of rows that a process keeps decoded."""


@dataclass(frozen=True)
class ColumnImages:
    """Places of N images in tables: `files`, the column, and of each image its file, its group of rows and its row."""

    files: tuple[str, ...]
    column: str
    file: np.ndarray
    group: np.ndarray
    row: np.ndarray

    def take(self, chosen: list[int] | slice) -> ColumnImages:
        """The chosen images alone."""
        return replace(self, file=self.file[chosen], group=self.group[chosen], row=self.row[chosen])

    def joined(self, others: Sequence[ColumnImages]) -> ColumnImages:
        """Concatenate with other selections from the same tables."""
        return replace(self, **concatenated((self, *others), ("file", "group", "row")))

    def read(self, index: int) -> bytes:
        """An image's bytes. `ImageError` for a cell without any; `InputError` for a table that cannot be read."""
        file = self.files[int(self.file[index])]
        cell = _group(file, self.column, int(self.group[index]))[int(self.row[index])].as_py()
        if isinstance(cell, dict):
            content, path = cell.get("bytes"), cell.get("path")
            if content is None and isinstance(path, str) and path:
                return read_bytes(str(Path(file).parent / path))
            cell = content
        if not isinstance(cell, bytes):
            raise ImageError(f"{file}: row {int(self.row[index])} of group {int(self.group[index])} has no image")
        return cell

    def cells(self, column: str) -> list[Any]:
        """The cells of another column of the tables, one an image. `InputError` where a table has no such column."""
        found: dict[tuple[int, int], list[Any]] = {}
        for number in dict.fromkeys(self.file.tolist()):
            path = Path(self.files[number])
            if column not in (names := _schema(path).names):
                raise InputError(f"{path}: no column {column}; there are {', '.join(names)}")
            for group, cells in enumerate(_label_groups(path, column)):
                found[number, group] = cells
        places = zip(self.file.tolist(), self.group.tolist(), self.row.tolist(), strict=True)
        return [found[file, group][row] for file, group, row in places]

    def sizes(self) -> None:
        """None: the sizes of images are not known before they are decoded."""

    def read_ahead(self, order: Sequence[int]) -> AbstractContextManager[None]:
        """Nothing has to be fetched."""
        return nullcontext()

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All positions in a random order that reads from a few groups of rows at a time."""
        return shuffled_groups((self.file, self.group), GROUPS_KEPT, rng)

    def identity(self, index: int) -> bytes:
        """Bytes that tell an image from another of its name."""
        try:
            return blake2b(self.read(index), digest_size=16).digest()
        except ImageError:
            return b""


def find_column_files(data: Path) -> dict[str, list[Path]]:
    """The tables with images of each part; none for data of another form."""
    if data.is_file():
        return {UNDIVIDED: [data]} if data.suffix.lower() == ".parquet" and _image_column(data) else {}
    if (data / "state.json").is_file():
        return {UNDIVIDED: _arrow_files(data)} if _arrow_files(data) else {}
    if (data / "dataset_dict.json").is_file():
        own = {part: _arrow_files(path) for part, path in part_folders(data).items()}
        return settled_parts({part: files for part, files in own.items() if files})
    found: dict[str, list[Path]] = {}
    for folder in (data, data / "data"):
        for path in children(folder):
            if path.suffix.lower() == ".parquet" and _image_column(path):
                found.setdefault(part_said(path.stem) or UNDIVIDED, []).append(path)
    return settled_parts(found)


def _arrow_files(folder: Path) -> list[Path]:
    return [path for path in children(folder) if path.suffix == ".arrow"]


def read_column_images(
    data: Path, parts: dict[str, list[Path]], *, labels: bool, multi_label: bool = False
) -> DataListing:
    """The images of all parts; their labels, where they count, are in a column label, labels, class or category.

    Numbers are names by the table's own list of them. `InputError` for a table that cannot be read, without such
    columns, or with another number of labels than one where not `multi_label`.
    """
    entries: list[ImageRecord] = []
    files = [path for own in parts.values() for path in own]
    places: list[tuple[int, int, int]] = []
    column, names = "", None
    for part, own in parts.items():
        for path in own:
            column = _image_column(path) or ""
            if not column:
                raise InputError(f"{path}: no column of images: of bytes, or of {{bytes, path}}")
            label, names = _label_column(path) if labels else (None, None)
            for group, cells in enumerate(_label_groups(path, label)):
                for row, cell in enumerate(cells):
                    found = _labels(path, cell, names) if labels else ()
                    if labels and len(found) != 1 and not multi_label:
                        raise InputError(f"{path}: row {len(places) + 1}: {len(found) or 'no'} labels, expected one")
                    key = f"{path.stem}/{group}-{row}"
                    entries.append(ImageRecord(f"{path}#{group}-{row}", found, part if labels else "train", key))
                    places.append((files.index(path), group, row))
    if not entries:
        raise InputError(f"{data}: its tables have no rows")
    used = in_class_order(name for entry in entries for name in entry.labels)
    known = tuple(names) if names is not None and set(used) <= set(names) else used
    at = np.array(places, dtype=np.int64).T
    members = ColumnImages(tuple(map(str, files)), column, at[0], at[1], at[2])
    return DataListing(entries, known, members=members)


def _labels(path: Path, cell: Any, names: list[str] | None) -> tuple[str, ...]:
    cells = cell if isinstance(cell, list) else [] if cell is None else [cell]
    if names is None:
        return tuple(class_name(str(each)) for each in cells)
    if not all(isinstance(each, int) and 0 <= each < len(names) for each in cells):
        raise InputError(f"{path}: label {cell!r} is outside 0..{len(names) - 1}")
    return tuple(class_name(names[each]) for each in cells)


def _image_column(path: Path) -> str | None:
    """The column of images: `image` or `img`, or the first other that has a word for them and bytes."""
    import pyarrow

    found = []
    for field in _schema(path):
        inner = [field.type.field(i).name for i in range(field.type.num_fields)] if _is_struct(field.type) else []
        binary = pyarrow.types.is_binary(field.type) or pyarrow.types.is_large_binary(field.type)
        if "bytes" in inner or (binary and re.search(r"image|img|picture|bytes|jpe?g|png", field.name.lower())):
            found.append(field.name)
    return next((name for name in ("image", "img", *found) if name in found), None)


def _is_struct(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_struct(kind)


def _label_column(path: Path) -> tuple[str, list[str] | None]:
    """The column of labels, and the names that its numbers stand for, if the table says them."""
    schema = _schema(path)
    names = {name.lower(): name for name in schema.names}
    column = next((names[each] for each in ("label", "labels", "class", "category") if each in names), None)
    if column is None:
        raise InputError(f"{path}: no column label, labels, class or category; found {', '.join(schema.names)}")
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = info.get("info", {}).get("features", {}).get(column, {})
        feature = feature.get("feature", feature) if isinstance(feature, dict) else {}
        stored = feature.get("names")
    except (ValueError, AttributeError, RecursionError):
        stored = None
    return column, stored if isinstance(stored, list) and all(isinstance(name, str) for name in stored) else None


def _label_groups(path: Path, column: str | None) -> Iterator[list[Any]]:
    """The cells of a column, group by group; without a column, nothing for each row."""
    with _arrow_errors(path):
        if path.suffix == ".arrow":
            batches = _open_arrow(str(path))
            for batch in batches:
                yield [None] * batch.num_rows if column is None else batch.column(column).to_pylist()
            return
        file = _open_parquet(str(path))
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if count > 10 * path.stat().st_size:
                raise InputError(f"{path}: {count} rows in {path.stat().st_size} bytes are no images")
            if column is None:
                yield [None] * count
            else:
                yield file.read_row_group(group, columns=[column]).column(column).to_pylist()


def _schema(path: Path) -> Any:
    import pyarrow

    with _arrow_errors(path):
        if path.suffix == ".arrow":
            batches = _open_arrow(str(path))
            return batches[0].schema if batches else pyarrow.schema([])
        return _open_parquet(str(path)).schema_arrow


_reading = threading.Lock()
"""Two threads that read from one open Parquet file at once end the process."""


@lru_cache(maxsize=GROUPS_KEPT)
def _group(path: str, column: str, group: int) -> Any:
    with _arrow_errors(Path(path)), _reading:
        if path.endswith(".arrow"):
            return _kept_arrow(path)[group].column(column)
        return _kept_parquet(path).read_row_group(group, columns=[column]).column(column).combine_chunks()


def _open_arrow(path: str) -> list[Any]:
    """The batches of a file as `datasets` writes them, mapped into memory and not read."""
    import pyarrow

    source = pyarrow.memory_map(path)
    try:
        return list(pyarrow.ipc.open_stream(source))
    except pyarrow.ArrowInvalid:
        reader = pyarrow.ipc.open_file(source)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def _open_parquet(path: str) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(path)


_kept_arrow, _kept_parquet = (lru_cache(maxsize=64)(each) for each in (_open_arrow, _open_parquet))
"""Open tables of this process, which reading the next image of one needs again."""


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """Inside, what is wrong with a table is an `InputError`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        if isinstance(error, InputError | ImageError):
            raise
        lines = str(error).splitlines() or [type(error).__name__]
        kind = "Arrow" if path.suffix == ".arrow" else "Parquet"
        raise InputError(f"{path}: not a readable {kind} file ({lines[0]})") from None
