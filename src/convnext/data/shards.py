"""Tar shards: many images in few large files, for discs and networks that are slow with many small ones.

A folder of shards holds tar files as WebDataset has them (members that share a name up to its first dot are one
sample: an image, and `.cls` with its class), and an index: `shards.json` (classes, files) and `shards.parquet` (where
each image lies). By the index any image is read by itself, so resuming and workers are those of plain files.
`pack.py` writes them. The folder may be behind http or https: then each shard is fetched when it is first needed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from convnext.data import cache
from convnext.data.entries import Entry, Listing, hold_out
from convnext.errors import ImageError, InputError

INDEX, PLACES = "shards.json", "shards.parquet"
FORMAT = 1
OPEN = 64  # shards a process holds open


@dataclass(frozen=True)
class Members:
    """Where N images lie in tar files."""

    files: tuple[str, ...]
    """Paths, or addresses."""
    kept: Path | None
    """Where what is behind addresses is kept."""
    shard: np.ndarray
    """Of each image, a position in `files`."""
    offset: np.ndarray
    size: np.ndarray
    """In bytes."""

    def take(self, chosen: list[int] | slice) -> Members:
        """Some of them."""
        return replace(self, shard=self.shard[chosen], offset=self.offset[chosen], size=self.size[chosen])

    def read(self, index: int) -> bytes:
        """An image's bytes. `ImageError` if its shard ends before; `InputError` if the shard cannot be read at all."""
        shard, offset, size = int(self.shard[index]), int(self.offset[index]), int(self.size[index])
        path = self.files[shard]
        try:
            content = _opened(path, self.kept).read(offset, size)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
        if len(content) != size:
            raise ImageError(f"{path} ends after {offset + len(content)} bytes, before this image does")
        return content

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All positions in a random order that reads from a few shards at a time.

        Shards are begun one after the other, in a random order, and the images of each are spread over the time in
        which as many others are begun.
        """
        begun = rng.permutation(len(self.files))[self.shard]
        return np.argsort(begun + MIXED * rng.random(len(self.shard)), kind="stable")


MIXED = 16
"""Shards whose images are mixed."""


class _File:
    """A file that is open while it is in use; reading does not move it, and so forked processes may share it."""

    def __init__(self, path: str | Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.number, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=OPEN)
def _opened(path: str, kept: Path | None) -> _File:
    return _File(path if kept is None else cache.fetch(path, kept / path.rsplit("/", 1)[1]))


def is_sharded(data: str | Path) -> bool:
    """Whether `data` is a folder of shards, here or behind an address."""
    return cache.is_address(data) or (Path(data) / INDEX).is_file()


def read_shards(data: str | Path, val_fraction: float | None) -> Listing:
    """The images of a folder of shards. Where none of its files is held out, a fraction of each class is, by hash, or
    nothing.

    `InputError` for an index that cannot be read, or files that are not as it says.
    """
    base = str(data).removesuffix(INDEX).rstrip("/")
    kept = None
    places = Path(base) / PLACES
    if cache.is_address(base):
        found = cache.folder() / sha256(base.encode()).hexdigest()[:16]
        text = cache.fetch(f"{base}/{INDEX}", found / INDEX, again=True).read_bytes()
        kept = cache.folder() / sha256(text).hexdigest()[:16]  # another index, other files
        places = cache.fetch(f"{base}/{PLACES}", kept / PLACES)
    index, columns = _read_index(base, places, text if kept is not None else (Path(base) / INDEX).read_bytes())
    files = tuple(f"{base}/{file['file']}" for file in index["shards"])
    if kept is None:
        _check_files(files, [file["bytes"] for file in index["shards"]])
    classes = tuple(index["classes"])
    given = [file["split"] for file in index["shards"]]
    labels = [tuple(classes[label] for label in labels) for labels in columns["labels"].to_pylist()]
    names = columns["name"].to_pylist()
    shard = columns["shard"].to_numpy()
    if "val" in given or val_fraction is None:
        splits = [given[at] for at in shard.tolist()]
    else:
        groups = [row[0] for row in labels] if all(len(row) == 1 for row in labels) else None
        splits = hold_out(names, groups, val_fraction)
    sources = [f"{files[at]}/{name}" for at, name in zip(shard.tolist(), names, strict=True)]
    entries = [Entry(*row) for row in zip(sources, labels, splits, strict=True)]
    members = Members(files, kept, shard, columns["offset"].to_numpy(), columns["size"].to_numpy())
    return Listing(entries, classes, members=members)


def _read_index(base: str, places: Path, text: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    import pyarrow.parquet

    try:
        index = json.loads(text)
        if index["format"] != FORMAT:
            raise InputError(f"{base}: the index is of format {index['format']}, this version reads {FORMAT}")
        table = pyarrow.parquet.read_table(places)
        return index, {name: table.column(name) for name in ("shard", "offset", "size", "name", "labels")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{base}: the index cannot be read: {str(error).splitlines()[0]}") from None


def _check_files(files: tuple[str, ...], sizes: list[int]) -> None:
    for path, size in zip(files, sizes, strict=True):
        try:
            found = os.path.getsize(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
        if found != size:
            raise InputError(f"{path} has {found} bytes, and {size} by the index: it is damaged, or has been replaced")
