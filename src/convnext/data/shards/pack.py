"""Packing images into tar shards (`data.shards.read`), and indexing tar files that others have packed."""

from __future__ import annotations

import json
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

import numpy as np

from convnext.cores import usable_cores
from convnext.data.exclude import read_exclude
from convnext.data.image_set import divide_listing, without_excluded
from convnext.data.images.decode import IMAGE_SUFFIXES, read_bytes, stored_mode
from convnext.data.shards.read import FORMAT, INDEX, PLACES, PLACES_DIGEST, is_sharded
from convnext.data.shards.shrink import shrink
from convnext.data.sources.frames import FRAME_RATE
from convnext.data.sources.hub import fetched
from convnext.data.sources.listing import read_listing, read_unlabelled_listing
from convnext.data.sources.records import DataListing, ImageRecord, in_class_order, read_class_names
from convnext.data.splits import HoldOut, part_of_name
from convnext.errors import ImageError, InputError
from convnext.printing import progress, without_password
from convnext.storage.files import sha256_of, whole_file

TAR_BLOCK = 512  # bytes; tar files are made of these
_STARTS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}
MOST_CLASS = 4096  # bytes of the name of a class


@dataclass
class Shard:
    """A tar file as the index has it: of each image its name, where its bytes lie, and its labels."""

    path: Path
    split: str
    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, name: str, offset: int, size: int, labels: tuple[str, ...]) -> None:
        """One more image. Names of files need not be text, but those of the index do."""
        self.names.append(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        self.offsets.append(offset)
        self.sizes.append(size)
        self.labels.append(labels)


def pack_shards(
    data: str,
    out: Path,
    *,
    shard_bytes: int,
    short_side: int | None = None,
    labels: bool = True,
    multi_label: bool = False,
    val_fraction: float = 0.2,
    seed: int = 0,
    form: str | None = None,
    exclude: Path | None = None,
    frame_rate: float = FRAME_RATE,
) -> tuple[list[Shard], list[str]]:
    """Copy images into shards in the new folder `out`, those of each split in a random order, and write the index.

    `data` is what is trained on, of the form `form`; without `labels`, what is pre-trained on, of videos `frame_rate`
    frames a second; what the file `exclude` lists is left out. Files are copied as they are, if they begin like images;
    training reports those that are damaged, by their names. With `short_side`, in pixels, larger ones are decoded and
    made so small (`data.shards.shrink`).
    Returns the shards, and a line for each file that cannot be packed. `InputError` for data that cannot be read, or a
    folder that is in use.
    """
    if shard_bytes < 1:
        raise InputError(f"a shard must have a size, not {shard_bytes} bytes")
    if short_side is not None and short_side < 1:
        raise InputError(f"an image must have a size, not {short_side} pixels")
    if is_sharded(data):
        raise InputError(f"{without_password(data)} is packed already")
    everything = read_listing(data, None, multi_label, form) if labels else read_unlabelled_listing(data, frame_rate)
    listing, _ = without_excluded(data, everything, read_exclude(exclude))
    if labels:
        listing, _ = divide_listing(listing, HoldOut(val_fraction), multi_label)
    if listing.images is not None:
        raise InputError(f"{data} are no files; train on them as they are")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"{out} is not empty; pack into a new folder")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    place = Path(fetched(data))
    root = place if place.is_dir() else place.parent
    position = {name: number for number, name in enumerate(listing.classes)}
    shards: list[Shard] = []
    failures: list[str] = []
    with progress("packing", len(listing.entries)) as done:
        for split in ("train", "val", "test"):
            places = [place for place, entry in enumerate(listing.entries) if entry.part == split]
            order = np.random.default_rng(seed).permutation(len(places))
            readable = _readable(listing, [places[at] for at in order], short_side, failures, done)
            for number, first in enumerate(readable):
                shard = Shard(out / f"{split}-{number:06}.tar", split)
                _write_shard(shard, chain([first], readable), position, root, shard_bytes)
                shards.append(shard)
    if not shards:
        raise InputError(f"none of {len(failures)} files can be opened; the first: {failures[0]}")
    write_index(out, position, shards)
    return shards, failures


def _readable(
    listing: DataListing, places: list[int], short_side: int | None, failures: list[str], done: Callable[[], None]
) -> Iterator[tuple[ImageRecord, bytes]]:
    """Entries with their files' contents, but those that cannot be read; some are read before their turn."""
    cores, left = len(usable_cores()), iter(places)
    waiting: deque[tuple[ImageRecord, Future[bytes]]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        while True:
            for place in islice(left, 2 * cores - len(waiting)):
                waiting.append((listing.entries[place], pool.submit(_read, listing, place, short_side)))
            if not waiting:
                return
            entry, reading = waiting.popleft()
            done()
            try:
                content = reading.result()
            except ImageError as error:
                failures.append(str(error))
            else:
                yield entry, content


def _read(listing: DataListing, place: int, short_side: int | None) -> bytes:
    """An image to pack. `ImageError` if it cannot be read, or does not begin like an image."""
    source = listing.entries[place].source
    content = read_bytes(source) if listing.members is None else listing.members.read(place)
    if not stored_mode(content):  # a table may name any file that this user can read, and shards are to be handed on
        raise ImageError(f"{source}: not an image in a format that is read")
    return content if short_side is None else shrink(content, short_side, name=source)


def _write_shard(
    shard: Shard, entries: Iterator[tuple[ImageRecord, bytes]], position: Mapping[str, int], root: Path, limit: int
) -> None:
    with whole_file(shard.path) as unfinished, tarfile.open(unfinished, "w") as tar:
        while tar.offset < limit and (found := next(entries, None)):
            entry, content = found
            source = Path(entry.source)
            key = f"{shard.path.stem}-{len(shard.names):06}"
            suffix = source.suffix.lower()  # of what has been shrunk, or was no file, that of what it is now
            suffix = next((own for start, own in _STARTS.items() if content.startswith(start)), suffix)
            offset = _add(tar, key + suffix, content)
            _add_labels(tar, key, [position[label] for label in entry.labels])
            name = source.relative_to(root).as_posix() if source.is_relative_to(root) else entry.source
            shard.add(name, offset, len(content), entry.labels)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a file; returns where its bytes begin."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, BytesIO(content))
    return tar.offset - -(-len(content) // TAR_BLOCK) * TAR_BLOCK


def _add_labels(tar: tarfile.TarFile, key: str, labels: list[int]) -> None:
    """Add labels under the names that other readers of WebDataset's form look for; ours reads the index."""
    if len(labels) == 1:
        _add(tar, f"{key}.cls", str(labels[0]).encode())
    elif labels:
        _add(tar, f"{key}.json", json.dumps({"labels": labels}).encode())


def write_index(out: Path, position: Mapping[str, int], shards: list[Shard]) -> None:
    """Write `shards.parquet` and `shards.json`, the latter last: without it the folder is none of shards."""
    import pyarrow
    from pyarrow import parquet

    columns = {
        "shard": pyarrow.array([at for at, shard in enumerate(shards) for _ in shard.names], pyarrow.int32()),
        "offset": pyarrow.array([o for shard in shards for o in shard.offsets], pyarrow.int64()),
        "size": pyarrow.array([size for shard in shards for size in shard.sizes], pyarrow.int64()),
        "name": pyarrow.array([name for shard in shards for name in shard.names], pyarrow.string()),
        "labels": pyarrow.array(
            [[position[label] for label in labels] for shard in shards for labels in shard.labels],
            pyarrow.list_(pyarrow.int32()),
        ),
    }
    with whole_file(out / PLACES) as unfinished:
        parquet.write_table(pyarrow.table(columns), unfinished)
    files = [
        {
            "file": s.path.name,
            "split": s.split,
            "images": len(s.names),
            "bytes": s.path.stat().st_size,
            "sha256": sha256_of(s.path),
        }
        for s in shards
    ]
    with whole_file(out / INDEX) as unfinished:
        stored = {"format": FORMAT, "classes": list(position), PLACES_DIGEST: sha256_of(out / PLACES), "shards": files}
        unfinished.write_text(json.dumps(stored, indent=1))


def index_shards(folder: Path) -> list[Shard]:
    """Index the tar files that lie in `folder`, of WebDataset's form, and write the index beside them.

    A file whose name says train is trained on; else one that says val or test (or another name of these parts) is of
    that part. Classes are what `.cls` members say: names, or
    positions in a `classes.txt` beside the tar files. `InputError` for what is no tar file or holds no images.
    """
    if is_sharded(folder):
        raise InputError(f"{folder} has an index already: {INDEX}")
    paths = sorted(path for path in folder.glob("*.tar") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder}: no tar files to index")
    listed = folder / "classes.txt"
    known = {name: number for number, name in enumerate(read_class_names(listed))} if listed.is_file() else {}
    shards = []
    with progress("indexing", len(paths)) as done:
        for path in paths:
            shard = Shard(path, _part_of(path.stem))
            _index_shard(shard, known)
            shards.append(shard)
            done()
    shards = [shard for shard in shards if shard.names]
    if not shards:
        raise InputError(f"{folder}: no images in its tar files")
    labels = (label for shard in shards for labels in shard.labels for label in labels)
    write_index(folder, known or {name: number for number, name in enumerate(in_class_order(labels))}, shards)
    return shards


def _part_of(stem: str) -> str:
    """The part that a word of a file's name says; "train" where none does."""
    said = {part_of_name(word) for word in re.split(r"[^a-z]+", stem.lower())}
    return next((part for part in ("train", "val", "test") if part in said), "train")


def _index_shard(shard: Shard, known: Mapping[str, int]) -> None:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, tuple[str, ...]] = {}
    by_position = list(known)
    try:
        with tarfile.open(shard.path, "r:") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                stem, _, suffix = file.partition(".")
                key = f"{folder}/{stem}"
                if not member.isfile() or not stem or (member.issparse() and suffix != "cls"):
                    continue  # of a sparse file the tar holds less than it seems to
                if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                    if key in images:
                        raise InputError(f"{shard.path}: {images[key].name} and {member.name} are of one sample")
                    images[key] = member
                elif suffix == "cls":
                    if member.size > MOST_CLASS or member.issparse():
                        raise InputError(f"{shard.path}: {member.name} has {member.size} bytes, too many for a class")
                    content = tar.extractfile(member)
                    assert content is not None  # of a regular file it never is
                    text = content.read().decode("utf-8", "replace").strip()
                    if known and text not in known:
                        if not text.isdecimal() or int(text) >= len(by_position):
                            raise InputError(
                                f"{shard.path}: class '{text}' is not in classes.txt, nor a position in it"
                            )
                        text = by_position[int(text)]
                    labels[key] = (text,)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{shard.path}: not a whole tar file without compression: {error}") from None
    for key, member in images.items():
        shard.add(member.name, member.offset_data, member.size, labels.get(key, ()))


def count_images(shards: Iterable[Shard]) -> int:
    """The images in them."""
    return sum(len(shard.names) for shard in shards)
