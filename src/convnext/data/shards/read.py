"""Tar shards: many images in few large files, for discs and networks that are slow with many small ones.

A folder of shards holds tar files as WebDataset has them (members that share a name up to its first dot are one
sample: an image, and `.cls` with its class, `.json` with its objects or `.seg.png`, its label map), and an index:
`shards.json` (classes, files) and `shards.parquet` (where each image lies). By the index any image is read by itself,
so resuming and workers are those of plain files. `pack.py` writes them; those with objects or label maps,
`pack_objects.py` and `pack_maps.py`. The folder may be behind http or https: then each shard is fetched a little before
it is needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from convnext.data.images.decode import MAX_BYTES
from convnext.data.shards.prefetch import ReadAhead
from convnext.data.sources.records import DataListing, ImageRecord, concatenated
from convnext.data.splits import UNDIVIDED, held_out_part
from convnext.errors import ImageError, InputError
from convnext.printing import without_password
from convnext.storage import cache

INDEX, PLACES = "shards.json", "shards.parquet"
FORMAT = 1
PLACES_DIGEST = "parquet_sha256"
MOST_INDEX, MOST_PLACES = 2**26, 2**33
"""Bytes of the index's two files, at most."""
MAP_SUFFIX = ".seg.png"
"""Suffix of the member that is an image's label map."""
MIXED = 16
"""Shards whose images are mixed."""


class _File:
    """A file that is open while it is in use; reading does not move it, and so forked processes may share it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.number, size, offset)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # by itself: at Python's end `os` may be gone
        close(self.number)


@lru_cache(maxsize=2 * MIXED)
def _opened(path: str, size: int, digest: str | None, kept: Path | None) -> _File:
    if kept is None:
        return _File(os.open(path, os.O_RDONLY))
    return _File(_fetched(path, size, digest, kept))


def _fetched(path: str, size: int, digest: str | None, kept: Path) -> int:
    return cache.open_fetched(path, kept / path.rsplit("/", 1)[1], size, digest)


def read_place(
    path: str, offset: int, size: int, length: int = 0, digest: str | None = None, kept: Path | None = None
) -> bytes:
    """Bytes of a tar file of this machine; with `kept`, of one behind an address, of so many bytes and that digest.

    `ImageError` if it ends before them; `InputError` if it cannot be read at all.
    """
    try:
        content = _opened(path, length, digest, kept).read(offset, size)
    except OSError as error:
        said = without_password(path)
        raise InputError(f"{said} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) != size:
        raise ImageError(f"{without_password(path)} ends after {offset + len(content)} bytes, before this image does")
    return content


@dataclass(frozen=True)
class ShardMembers:
    """Places of N images in tar files."""

    files: tuple[str, ...]
    """Path or address of each tar file."""
    lengths: tuple[int, ...]
    """Size of each tar file, in bytes."""
    digests: tuple[str | None, ...]
    """SHA-256 of each tar file; None where the index does not have it, as those of before."""
    kept: Path | None
    """Folder that fetched tar files are kept in; None for local ones."""
    shard: np.ndarray
    """Position in `files` of each image's tar file."""
    offset: np.ndarray
    """Position of each image in its tar file, in bytes."""
    size: np.ndarray
    """Size of each image, in bytes."""

    def take(self, chosen: list[int] | slice) -> ShardMembers:
        """The chosen images alone."""
        return replace(self, shard=self.shard[chosen], offset=self.offset[chosen], size=self.size[chosen])

    def joined(self, others: Sequence[ShardMembers]) -> ShardMembers:
        """Concatenate with other selections from the same shards."""
        return replace(self, **concatenated((self, *others), ("shard", "offset", "size")))

    def read(self, index: int) -> bytes:
        """An image's bytes. `ImageError` if its shard ends before; `InputError` if the shard cannot be read at all."""
        shard, offset, size = int(self.shard[index]), int(self.offset[index]), int(self.size[index])
        return read_place(self.files[shard], offset, size, self.lengths[shard], self.digests[shard], self.kept)

    def identity(self, index: int) -> bytes:
        """Bytes that tell an image from another of its name: its size, so that no shard is fetched."""
        return str(self.size[index]).encode()

    def sizes(self) -> Sequence[int] | None:
        """Bytes of each image; None of shards behind an address, which would have to be fetched to read any."""
        return self.size.tolist() if self.kept is None else None

    def read_ahead(self, order: Sequence[int]) -> AbstractContextManager[ReadAhead | None]:
        """Inside, what is behind addresses is fetched before its turn."""
        if self.kept is None:
            return nullcontext()
        return ReadAhead(self.shard, order, partial(self._fetch, self.kept))

    def _fetch(self, kept: Path, shard: int) -> None:
        os.close(_fetched(self.files[shard], self.lengths[shard], self.digests[shard], kept))

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All positions in a random order that reads from a few shards at a time.

        Shards are begun one after the other, in a random order, and the images of each are spread over the time in
        which as many others are begun.
        """
        begun = rng.permutation(len(self.files))[self.shard]
        return np.argsort(begun + MIXED * rng.random(len(self.shard)), kind="stable")


def is_sharded(data: str | Path) -> bool:
    """Whether `data` is a folder of shards, here or behind an address."""
    return cache.is_address(data) or (Path(data) / INDEX).is_file()


def is_packed_here(data: str | Path) -> bool:
    """Whether `data` is a folder of shards of this machine."""
    return not cache.is_address(data) and is_sharded(data)


PACKED = {
    "classes": ("images with classes, or without labels", "classify"),
    "objects": ("images with objects", "detect"),
    "maps": ("images with label maps", "segment"),
}
"""Words for what shards hold, and the training that takes them."""


def what_is_packed(data: str | Path) -> str | None:
    """A key of `PACKED`, for a folder of shards of this machine; None for other data, and where its index does not say
    it."""
    if not is_packed_here(data):
        return None
    with suppress(OSError, ValueError, AttributeError, RecursionError):  # which is said when the index is read
        found = json.loads((Path(data) / INDEX).read_bytes()).get("holds", "classes")
        return found if isinstance(found, str) else None
    return None


def refuse_address(data: str | Path) -> None:
    """`InputError` for data behind an address, where they are read from this machine alone."""
    if cache.is_address(data):
        raise InputError(
            f"{without_password(str(data))}: shards behind an address are read to classify and to pre-train; fetch the "
            "folder, and give its path"
        )


def refuse_other_shards(data: str | Path, wanted: str | None, index: ShardIndex) -> None:
    """`InputError` for shards that hold something else than what is wanted, a key of `PACKED`."""
    if wanted not in (None, index.holds):
        words, training = PACKED[index.holds]
        raise InputError(f"{data}: shards of {words}, which `convnext train {training}` takes")


def local_index(folder: str | Path) -> ShardIndex:
    """The index of a folder of shards of this machine. `InputError` for one that cannot be read, or files that are not
    as it says."""
    index = read_index(str(folder), Path(folder) / INDEX, Path(folder) / PLACES)
    _check_files(tuple(f"{folder}/{file}" for file in index.files), index.lengths)
    return index


def read_shards(data: str | Path, wanted: str | None = None) -> DataListing:
    """The images of a folder of shards; where none of its files is held out, they are undivided.

    `InputError` for an index that cannot be read, files that are not as it says, or shards that do not hold what is
    `wanted`, a key of `PACKED`.
    """
    base = str(data).rstrip("/")
    if not cache.is_address(data):
        index = read_index(base, Path(base) / INDEX, Path(base) / PLACES)
        refuse_other_shards(base, wanted, index)
        return _listing(index, tuple(f"{base}/{file}" for file in index.files), None)
    said = without_password(base)
    found = cache.download_cache() / sha256(said.encode()).hexdigest()[:16]
    first = cache.fetch(f"{base}/{INDEX}", found / INDEX, most=MOST_INDEX, again=True)
    content = first.read_bytes()
    # Another index, other files; and where the index does not say what all of them hold, another address too.
    digest = _digest_of_places(content)
    kept = cache.download_cache() / sha256(content if digest else content + said.encode()).hexdigest()[:16]
    places = cache.fetch(f"{base}/{PLACES}", kept / PLACES, most=MOST_PLACES, digest=digest)
    index = read_index(said, first, places)
    refuse_other_shards(said, wanted, index)
    return _listing(index, tuple(f"{base}/{quote(file)}" for file in index.files), kept)


def _digest_of_places(content: bytes) -> str | None:
    """The SHA-256 of `shards.parquet`, where an index has one of each file; those of before have none."""
    try:
        stored = json.loads(content)
        found = [stored[PLACES_DIGEST], *(file["sha256"] for file in stored["shards"])]
    except (ValueError, LookupError, TypeError, RecursionError):  # what cannot be read is said by who reads it
        return None
    return found[0] if all(isinstance(digest, str) for digest in found) else None


@dataclass(frozen=True)
class ShardIndex:
    """Content of the index: of each file, and of each image.

    `holds` is what its images have (`PACKED`), `said` what `shards.json` holds, and `table` the columns of
    `shards.parquet`.
    """

    holds: str
    said: Mapping[str, Any]
    table: Any

    classes: tuple[str, ...]
    files: tuple[str, ...]
    lengths: tuple[int, ...]
    digests: tuple[str | None, ...]
    splits: tuple[str, ...]
    names: list[str]
    labels: list[tuple[str, ...]]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray


def read_index(base: str, first: Path, second: Path) -> ShardIndex:
    from pyarrow import parquet

    try:
        stored = json.loads(first.read_bytes())
        if stored["format"] != FORMAT:
            raise InputError(f"{base}: the index is of format {stored['format']}, this version reads {FORMAT}")
        files, classes = stored["shards"], tuple(stored["classes"])
        table = parquet.read_table(second)
        shard = table.column("shard").to_numpy()
        if len(shard) and not 0 <= shard.min() <= shard.max() < len(files):
            raise ValueError(f"{PLACES} and {INDEX} do not belong together")
        _check_index(files, classes, table)
        if (holds := stored.get("holds", "classes")) not in PACKED:
            raise ValueError(f"it is of {holds!r}, which this version does not read")
        return ShardIndex(
            holds=holds,
            said=stored,
            table=table,
            classes=classes,
            files=tuple(file["file"] for file in files),
            lengths=tuple(file["bytes"] for file in files),
            digests=tuple(file.get("sha256") for file in files),
            splits=tuple(file["split"] for file in files),
            names=table.column("name").to_pylist(),
            labels=[tuple(classes[label] for label in labels) for labels in table.column("labels").to_pylist()],
            shard=shard,
            offset=table.column("offset").to_numpy(),
            size=table.column("size").to_numpy(),
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise unreadable_index(base, error) from None


def unreadable_index(base: str | Path, error: Exception) -> InputError:
    """An error about an index, which says what is wrong with it."""
    if isinstance(error, InputError):
        return error
    return InputError(f"{base}: the index cannot be read: {next(iter(str(error).splitlines()), error)}")


def _check_index(files: list[dict[str, Any]], classes: tuple[str, ...], table: Any) -> None:
    """`ValueError` for places outside the folder, or outside its files: an index may be a stranger's."""
    if not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no names")
    if not all(isinstance(file["split"], str) for file in files):
        raise ValueError("its splits are no names")
    for file in files:
        name, length = file["file"], file["bytes"]
        if not isinstance(name, str) or name != Path(name).name or name in ("", ".", "..") or "\0" in name:
            raise ValueError(f"{name!r} is no file of its folder")
        if type(length) is not int or length < 0:
            raise ValueError(f"{name} has no length")
        if not isinstance(file.get("sha256", ""), str):
            raise ValueError(f"{name} has no SHA-256")
    columns = {name: table.column(name).to_numpy() for name in ("shard", "offset", "size")}
    if not all(np.issubdtype(column.dtype, np.integer) for column in columns.values()):
        raise ValueError(f"{PLACES} does not hold whole numbers")
    lengths = np.array([file["bytes"] for file in files], dtype=np.int64)[columns["shard"]]
    offset, size = (columns[name].astype(np.int64) for name in ("offset", "size"))
    if ((offset < 0) | (size < 0) | (size > np.minimum(lengths, MAX_BYTES)) | (offset > lengths - size)).any():
        raise ValueError("it says of images that they lie outside their files")
    used = [label for labels in table.column("labels").to_pylist() for label in labels]
    if used and not 0 <= min(used) <= max(used) < len(classes):
        raise ValueError("it has labels that are no classes")


def _listing(index: ShardIndex, files: tuple[str, ...], kept: Path | None) -> DataListing:
    if kept is None:
        _check_files(files, index.lengths)
    divided = held_out_part(index.splits) is not None
    parts = [index.splits[at] if divided else UNDIVIDED for at in index.shard.tolist()]
    said = [without_password(file) if cache.is_address(file) else file for file in files]
    sources = [f"{said[at]}/{name}" for at, name in zip(index.shard.tolist(), index.names, strict=True)]
    entries = [ImageRecord(*row) for row in zip(sources, index.labels, parts, index.names, strict=True)]
    members = ShardMembers(files, index.lengths, index.digests, kept, index.shard, index.offset, index.size)
    return DataListing(entries, index.classes, members=members)


def _check_files(files: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    for path, size in zip(files, sizes, strict=True):
        try:
            found = os.path.getsize(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
        if found != size:
            raise InputError(f"{path} has {found} bytes, and {size} by the index: it is damaged, or has been replaced")
