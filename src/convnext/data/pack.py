"""Packing images into tar shards (`shards.py`), and indexing tar files that others have packed."""

from __future__ import annotations

import json
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from convnext.data.decode import IMAGE_SUFFIXES
from convnext.data.entries import HELD_OUT, Entry, Listing, in_class_order
from convnext.data.folders import read_unlabelled
from convnext.data.samples import read_listing
from convnext.data.shards import FORMAT, INDEX, PLACES, is_sharded
from convnext.errors import InputError
from convnext.files import whole_file

BLOCK = 512  # bytes; tar files are made of these
MB = 10**6


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
        """One more image."""
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.labels.append(labels)


def pack(
    data: str,
    out: Path | None,
    *,
    labels: bool,
    multi_label: bool,
    val_fraction: float,
    shard_mb: int,
    seed: int,
) -> tuple[Path, int, int, list[str]]:
    """Returns the folder of shards, their number, that of the images, and a line for each file left out.

    Without `out`, `data` is a folder of tar files, which get an index. Without `labels`, it is a folder of images, flat
    or nested. `InputError` for data that cannot be read, or a folder that is in use.
    """
    if shard_mb < 1:
        raise InputError(f"--shard-mb must be at least 1, not {shard_mb}")
    if is_sharded(data):
        raise InputError(f"{data} is packed already; to index its tar files anew, delete {INDEX} in it")
    failures: list[str] = []
    with Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(),
                  console=Console(stderr=True), disable=not Console(stderr=True).is_terminal) as bar:  # fmt: skip
        if out is None:
            folder = Path(data)
            if not (tars := tar_files(folder)):
                raise InputError(f"{data}: no tar files to index; to pack images, say where to: --out FOLDER")
            task = bar.add_task("indexing", total=len(tars))
            shards = index_shards(folder, lambda: bar.advance(task))
        else:
            if labels:
                listing = read_listing(data, classes=None, multi_label=multi_label, val_fraction=val_fraction)
            else:
                listing = read_unlabelled(Path(data))
            if listing.images is not None:
                raise InputError(f"{data} are no files; train on them as they are")
            folder = _new(out)
            task = bar.add_task("packing", total=len(listing.entries))
            root = Path(data) if Path(data).is_dir() else Path(data).parent
            shards, failures = write_shards(
                listing, root, folder, shard_bytes=shard_mb * MB, seed=seed, done=lambda: bar.advance(task)
            )
    return folder, len(shards), sum(len(shard.names) for shard in shards), failures


def _new(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"{out} is not empty; pack into a new folder")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    return out


def write_shards(
    listing: Listing, root: Path, out: Path, *, shard_bytes: int, seed: int, done: Callable[[], None]
) -> tuple[list[Shard], list[str]]:
    """Copy images into shards in the folder `out`, those of each split in a random order, and write the index.

    Files are copied as they are: training reports those that are no images, by their names, which are relative to
    `root`. Returns the shards, and a line for each file that could not be opened and was left out. `done` is called
    after each image.
    """
    shards: list[Shard] = []
    failures: list[str] = []
    for split in ("train", "val"):
        entries = [entry for entry in listing.entries if entry.split == split]
        left = deque(entries[at] for at in np.random.default_rng(seed).permutation(len(entries)))
        number = 0
        while left:
            shard = Shard(out / f"{split}-{number:06}.tar", split)
            _write_shard(shard, left, listing.classes, root, shard_bytes, failures, done)
            shards.append(shard)
            number += 1
    write_index(out, listing.classes, shards)
    return shards, failures


def _write_shard(
    shard: Shard,
    left: deque[Entry],
    classes: tuple[str, ...],
    root: Path,
    limit: int,
    failures: list[str],
    done: Callable[[], None],
) -> None:
    stem = shard.path.stem
    with whole_file(shard.path) as unfinished, tarfile.open(unfinished, "w") as tar:
        while left and tar.offset < limit:
            entry = left.popleft()
            done()
            try:
                content = Path(entry.source).read_bytes()
            except OSError as error:
                failures.append(f"{entry.source}: cannot be opened: {(error.strerror or str(error)).lower()}")
                continue
            key = f"{stem}-{len(shard.names):06}"
            offset = _add(tar, key + Path(entry.source).suffix.lower(), content)
            _add_labels(tar, key, [classes.index(label) for label in entry.labels])
            shard.add(_name(entry.source, root), offset, len(content), entry.labels)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a file; returns where its bytes begin."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, BytesIO(content))
    return tar.offset - -(-len(content) // BLOCK) * BLOCK


def _add_labels(tar: tarfile.TarFile, key: str, labels: list[int]) -> None:
    """What other readers of WebDataset's form look for; ours reads the index."""
    if len(labels) == 1:
        _add(tar, f"{key}.cls", str(labels[0]).encode())
    elif labels:
        _add(tar, f"{key}.json", json.dumps({"labels": labels}).encode())


def _name(source: str, root: Path) -> str:
    path = Path(source)
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else source
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # names need not be text, the index does


def write_index(out: Path, classes: tuple[str, ...], shards: list[Shard]) -> None:
    """Write `shards.parquet` and `shards.json`, the latter last: without it the folder is none of shards."""
    import pyarrow
    from pyarrow import parquet

    position = {name: number for number, name in enumerate(classes)}
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
        {"file": s.path.name, "split": s.split, "images": len(s.names), "bytes": s.path.stat().st_size} for s in shards
    ]
    with whole_file(out / INDEX) as unfinished:
        unfinished.write_text(json.dumps({"format": FORMAT, "classes": classes, "shards": files}, indent=1))


def index_shards(folder: Path, done: Callable[[], None]) -> list[Shard]:
    """Index the tar files that lie in `folder`, of WebDataset's form, and write the index beside them.

    A file whose name says val, valid, validation or test is held out. Classes are what `.cls` members say: names, or
    positions in a `classes.txt` beside the tar files. `done` is called after each file.
    """
    names = folder / "classes.txt"
    known = tuple(names.read_text(encoding="utf-8").split("\n")) if names.is_file() else ()
    known = tuple(name.strip() for name in known if name.strip())
    shards = []
    for path in tar_files(folder):
        words = re.split(r"[^a-z]+", path.stem.lower())
        shard = Shard(path, "val" if set(words) & set(HELD_OUT) else "train")
        try:
            _index_shard(shard, known)
        except (OSError, tarfile.TarError) as error:
            raise InputError(f"{path}: not a whole tar file without compression: {error}") from None
        shards.append(shard)
        done()
    if not any(shard.names for shard in shards):
        raise InputError(f"{folder}: no images in its tar files")
    write_index(folder, known or in_class_order(_labels(shards)), shards)
    return shards


def tar_files(folder: Path) -> list[Path]:
    """The tar files in a folder, sorted."""
    return sorted(path for path in folder.glob("*.tar") if not path.name.startswith("."))


def _labels(shards: Iterable[Shard]) -> Iterable[str]:
    return (label for shard in shards for labels in shard.labels for label in labels)


def _index_shard(shard: Shard, known: tuple[str, ...]) -> None:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, tuple[str, ...]] = {}
    with tarfile.open(shard.path, "r:") as tar:
        for member in tar:
            folder, _, file = member.name.rpartition("/")
            stem, _, suffix = file.partition(".")
            key = f"{folder}/{stem}"
            if not member.isfile() or not stem:
                continue
            if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                images[key] = member
            elif suffix == "cls":
                content = tar.extractfile(member)
                assert content is not None
                labels[key] = (_class_of(content.read().decode("utf-8", "replace").strip(), known, shard.path),)
    for key, member in images.items():
        shard.add(member.name, member.offset_data, member.size, labels.get(key, ()))


def _class_of(text: str, known: tuple[str, ...], path: Path) -> str:
    if not known or text in known:
        return text
    if not text.isdecimal() or int(text) >= len(known):
        raise InputError(f"{path}: class '{text}' is not in classes.txt, nor a position in it")
    return known[int(text)]
