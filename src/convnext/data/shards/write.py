"""Writing tar shards and their index (`data.shards.read`)."""

from __future__ import annotations

import json
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convnext.cores import usable_cores
from convnext.data.images.decode import stored_mode
from convnext.data.shards.members import clean_name
from convnext.data.shards.read import FORMAT, INDEX, MAP_SUFFIX, PLACES, PLACES_DIGEST, is_sharded
from convnext.data.sources.hub import fetched
from convnext.errors import ImageError, InputError
from convnext.printing import without_password
from convnext.storage.files import make_folder, sha256_of, whole_file, writing

TAR_BLOCK = 512  # bytes; tar files are made of these
_STARTS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


class Sample(NamedTuple):
    """One image to pack.

    Fields:
        name: what it is called in the index.
        suffix: that of the file it comes from.
        content: its file's bytes.
        beside: contents of the members beside it, by their suffix, for other readers and where they are large.
        labels: its classes.
        target: what the index says of it besides, by column: text.
        place: position in the listing of all images; those of one place are listed in the order of the tar files.
    """

    name: str
    suffix: str
    content: bytes
    beside: Mapping[str, bytes]
    labels: tuple[str, ...] = ()
    target: Mapping[str, str] = {}
    place: int = 0


class Row(NamedTuple):
    """An image in the index: its name, where its bytes and those of its label map lie, its labels, its place."""

    name: str
    offset: int
    size: int
    labels: tuple[str, ...]
    target: Mapping[str, str] = {}
    map: tuple[int, int] = (0, 0)
    place: int = 0


@dataclass
class Shard:
    """A tar file, and its images as the index has them."""

    path: Path
    split: str
    rows: list[Row] = field(default_factory=list)


def indexed_text(text: str) -> str:
    """A name as the index has it: names of files need not be text, but those of the index do."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def refuse_packed(data: str) -> None:
    """`InputError` for data that are shards."""
    if is_sharded(data):
        raise InputError(f"{without_password(data)} is packed already")


def new_folder(out: Path, shard_bytes: int) -> None:
    """Make the folder of shards of that size. `InputError` for one that is in use, or for no size."""
    if shard_bytes < 1:
        raise InputError(f"a shard must have a size, not {shard_bytes} bytes")
    make_folder(out)
    with writing(out):
        if any(out.iterdir()):
            raise InputError(f"{out} is not empty; pack into a new folder")


def folder_of(data: str) -> Path:
    """The folder that names in data are relative to."""
    place = Path(fetched(data))
    return place if place.is_dir() else place.parent


def name_below(source: str, root: Path) -> str:
    """The path of a file from the data's folder on; as it is, of one that lies elsewhere."""
    path = Path(source)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else source


def unique_names(sources: Sequence[str], root: Path) -> list[str]:
    """Names below the shards of files that are opened by them (`members`): each another, and of no folder above."""
    found: dict[str, None] = {}
    for source in sources:
        name = clean_name(indexed_text(name_below(source, root)))
        path = Path(name)
        others = (str(path.with_name(f"{path.stem}-{number}{path.suffix}")) for number in count(2))
        found[next(each for each in chain([name], others) if each not in found)] = None
    return list(found)


def like_an_image(content: bytes, source: object) -> bytes:
    """A file's content. `ImageError` where it does not begin like an image."""
    if not stored_mode(content):  # a table may name any file that this user can read, and shards are to be handed on
        raise ImageError(f"{source}: not an image in a format that is read")
    return content


def pack_parts(
    out: Path,
    parts: Sequence[str],
    read: Callable[[int], Sample],
    *,
    names: Iterable[str],
    seed: int,
    shard_bytes: int,
    done: Callable[[], None],
) -> tuple[list[Shard], list[str]]:
    """Write the images of each of the parts `names` into shards, in a random order; `read` gives the one at a place.

    `parts` has the part of each image. Returns the shards, and a line for each image that `read` refuses by an
    `ImageError`. `InputError` where all are refused.
    """
    shards: list[Shard] = []
    failures: list[str] = []
    for part in names:
        places = [place for place, own in enumerate(parts) if own == part]
        order = np.random.default_rng(seed).permutation(len(places))
        readable = _readable(read, [places[at] for at in order], failures, done)
        for number, first in enumerate(readable):
            shard = Shard(out / f"{part or 'all'}-{number:06}.tar", part)
            _write_shard(shard, chain([first], readable), shard_bytes)
            shards.append(shard)
    if not shards:
        raise InputError(f"none of {len(failures)} files can be opened; the first: {failures[0]}")
    return shards, failures


def _readable(
    read: Callable[[int], Sample], places: list[int], failures: list[str], done: Callable[[], None]
) -> Iterator[Sample]:
    """Images to pack, but those that cannot be read; some are read before their turn."""
    cores, left = len(usable_cores()), iter(places)
    waiting: deque[Future[Sample]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        while True:
            for place in islice(left, 2 * cores - len(waiting)):
                waiting.append(pool.submit(read, place))
            if not waiting:
                return
            reading = waiting.popleft()
            done()
            try:
                sample = reading.result()
            except ImageError as error:
                failures.append(str(error))
            else:
                yield sample


def _write_shard(shard: Shard, samples: Iterator[Sample], limit: int) -> None:
    with whole_file(shard.path) as unfinished, tarfile.open(unfinished, "w") as tar:
        while tar.offset < limit and (sample := next(samples, None)):
            key = f"{shard.path.stem}-{len(shard.rows):06}"
            suffix = sample.suffix.lower()  # of what has been shrunk, or was no file, that of what it is now
            suffix = next((own for start, own in _STARTS.items() if sample.content.startswith(start)), suffix)
            offset = _add(tar, key + suffix, sample.content)
            places = {end: (_add(tar, key + end, own), len(own)) for end, own in sample.beside.items()}
            name, map = indexed_text(sample.name), places.get(MAP_SUFFIX, (0, 0))
            row = Row(name, offset, len(sample.content), sample.labels, sample.target, map, sample.place)
            shard.rows.append(row)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a file; returns where its bytes begin."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, BytesIO(content))
    return tar.offset - -(-len(content) // TAR_BLOCK) * TAR_BLOCK


def write_index(out: Path, classes: Sequence[str], shards: list[Shard], said: Mapping[str, Any] | None = None) -> None:
    """Write `shards.parquet` and `shards.json`, the latter last: without it the folder is none of shards.

    `said` is what the index says besides, where images have objects or label maps.
    """
    import pyarrow
    from pyarrow import parquet

    position = {name: number for number, name in enumerate(classes)}
    numbered = sorted(
        ((at, row) for at, shard in enumerate(shards) for row in shard.rows), key=lambda each: each[1].place
    )
    rows = [row for _, row in numbered]
    columns = {
        "shard": pyarrow.array([at for at, _ in numbered], pyarrow.int32()),
        "offset": pyarrow.array([row.offset for row in rows], pyarrow.int64()),
        "size": pyarrow.array([row.size for row in rows], pyarrow.int64()),
        "name": pyarrow.array([row.name for row in rows], pyarrow.string()),
        "labels": pyarrow.array(
            [[position[label] for label in row.labels] for row in rows], pyarrow.list_(pyarrow.int32())
        ),
    }
    for column in rows[0].target if rows else ():
        columns[column] = pyarrow.array([row.target[column] for row in rows], pyarrow.string())
    if any(size for row in rows for size in row.map):
        columns["map_offset"] = pyarrow.array([row.map[0] for row in rows], pyarrow.int64())
        columns["map_size"] = pyarrow.array([row.map[1] for row in rows], pyarrow.int64())
    with whole_file(out / PLACES) as unfinished:
        parquet.write_table(pyarrow.table(columns), unfinished)
    files = [
        {
            "file": s.path.name,
            "split": s.split,
            "images": len(s.rows),
            "bytes": s.path.stat().st_size,
            "sha256": sha256_of(s.path),
        }
        for s in shards
    ]
    stored = {"format": FORMAT, **(said or {}), "classes": list(classes), PLACES_DIGEST: sha256_of(out / PLACES)}
    with whole_file(out / INDEX) as unfinished:
        unfinished.write_text(json.dumps({**stored, "shards": files}, indent=1))


def count_images(shards: Iterable[Shard]) -> int:
    """The images in them."""
    return sum(len(shard.rows) for shard in shards)
