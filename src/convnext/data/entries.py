"""What every form of data is read into first: a list of sources with class names and a split."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convnext.errors import InputError

if TYPE_CHECKING:
    from convnext.data.shards import Members

# The names a held-out part may have; the first that is present counts, and the others are left alone.
HELD_OUT = ("val", "valid", "validation", "test")


class Entry(NamedTuple):
    """One image: its source, its class names (one, or any number if multi-label) and "train" or "val"."""

    source: str
    labels: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class Listing:
    """All entries of some data, the names of its classes in order, and its images if they are not files: embedded
    (uint8 `[N, H, W]`), or in tar shards."""

    entries: list[Entry]
    classes: tuple[str, ...]
    images: np.ndarray | None = None
    members: Members | None = None


def in_class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct class names sorted by name, or as numbers if all of them are integers."""
    distinct = sorted(set(names))
    if all(name.isascii() and name.isdigit() for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a `classes.txt`, one a line. `InputError` if it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def hash_fraction(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone: not on the machine, the order or other keys."""
    # One form of Unicode, since some file systems hand names back in another than they were given.
    text = unicodedata.normalize("NFC", key).encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") / 2**64


def hold_out(keys: Sequence[str], groups: Sequence[str] | None, fraction: float) -> list[str]:
    """A split, "train" or "val", for each key: "val" where its hash lies below `fraction`.

    With `groups` (the class of each key), every group of two or more keeps at least one on either side, and a group
    of one goes to "train".
    """
    hashes = [hash_fraction(key) for key in keys]
    splits = ["val" if value < fraction else "train" for value in hashes]
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups or ()):
        members[group].append(index)
    for indices in members.values():
        indices.sort(key=hashes.__getitem__)
        splits[indices[-1]] = "train"
        if len(indices) > 1:
            splits[indices[0]] = "val"
    return splits
