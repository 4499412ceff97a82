"""Files inside shards of this machine, by a path that goes on in the tar file: `SHARDS/train-000000.tar/a/1.jpg`.

Such a path is what an image of shards is called, so whoever opens files by their paths opens these too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple

from convnext.data.shards.read import INDEX, MAP_SUFFIX, PLACES, ShardIndex, read_index, read_place, unreadable_index
from convnext.errors import ImageError


class MemberPlace(NamedTuple):
    """Bytes of a file inside a tar file, and when the shards were indexed, in nanoseconds."""

    tar: str
    offset: int
    size: int
    changed: int


def member_name(path: str | PurePath) -> str | None:
    """The name of a file inside a shard; None for a path that leads into none."""
    _, found, name = str(path).partition(".tar/")
    return name if found else None


def find_member(path: str | Path) -> MemberPlace | None:
    """The tar file and the bytes of a file in it; None for a path that leads into no shard or is not in its index.

    `InputError` for an index that cannot be read.
    """
    for tar in Path(path).parents:
        if tar.suffix != ".tar":
            continue
        try:
            found = os.stat(tar.parent / INDEX)
        except (OSError, ValueError):
            continue
        places = _places(str(tar.parent), (found.st_mtime_ns, found.st_size))
        place = places.get(Path(path).relative_to(tar.parent).as_posix())
        return None if place is None else MemberPlace(str(tar), *place, found.st_mtime_ns)
    return None


def read_member(path: str | Path) -> bytes | None:
    """The content of a file inside a shard; None where `find_member` finds none. `ImageError` if its tar file ends
    before; `InputError` if that cannot be read at all."""
    place = find_member(path)
    if place is None:
        return None
    try:
        return read_place(place.tar, place.offset, place.size)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def places_of(index: ShardIndex, folder: str | Path) -> dict[str, tuple[int, int]]:
    """Offset and size of every image and label map, by the tar file and name.

    `InputError` for names that are no paths, that stand twice, or maps that lie outside their files.
    """
    try:
        return _places_of(index)
    except (ValueError, LookupError, TypeError) as error:
        raise unreadable_index(folder, error) from None


def _places_of(index: ShardIndex) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    tars = [index.files[at] for at in index.shard.tolist()]
    for tar, name, *place in zip(tars, index.names, index.offset.tolist(), index.size.tolist(), strict=True):
        if not isinstance(name, str) or name != clean_name(name) or not name:
            raise ValueError(f"{name!r} is no name of an image")
        found[f"{tar}/{name}"] = (place[0], place[1])
    if index.holds == "maps":
        columns = (index.table.column(f"map_{each}").to_pylist() for each in ("offset", "size"))
        lengths = [index.lengths[at] for at in index.shard.tolist()]
        for tar, length, name, offset, size in zip(tars, lengths, index.names, *columns, strict=True):
            if type(offset) is not int or type(size) is not int or offset < 0 or not 0 < size <= length - offset:
                raise ValueError(f"the label map of {name} lies outside its file")
            found[f"{tar}/{name}{MAP_SUFFIX}"] = (offset, size)
    if len(found) < len(tars) * (2 if index.holds == "maps" else 1):
        raise ValueError("it has names that stand twice")
    return found


def clean_name(name: str) -> str:
    """A name below a tar file: a path of no folder above."""
    return "/".join(each for each in name.replace("\0", "").split("/") if each not in ("", ".", ".."))


@lru_cache(maxsize=8)
def _places(folder: str, changed: tuple[int, int]) -> Mapping[str, tuple[int, int]]:
    return places_of(read_index(folder, Path(folder) / INDEX, Path(folder) / PLACES), folder)
