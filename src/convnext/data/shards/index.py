"""An index for tar files that others have packed in WebDataset's form."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from convnext.data.images.decode import IMAGE_SUFFIXES
from convnext.data.shards.read import INDEX, is_sharded
from convnext.data.shards.write import Row, Shard, indexed_text, write_index
from convnext.data.sources.records import in_class_order, read_class_names
from convnext.data.splits import part_of_name
from convnext.errors import InputError
from convnext.printing import progress

MOST_CLASS = 4096  # bytes of the name of a class


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
    shards = [shard for shard in shards if shard.rows]
    if not shards:
        raise InputError(f"{folder}: no images in its tar files")
    labels = (label for shard in shards for row in shard.rows for label in row.labels)
    write_index(folder, tuple(known) or in_class_order(labels), shards)
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
        shard.rows.append(Row(indexed_text(member.name), member.offset_data, member.size, labels.get(key, ())))
