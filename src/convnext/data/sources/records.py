"""The list of labelled images that folders, tables and shards are all read into."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convnext.errors import InputError

if TYPE_CHECKING:
    from convnext.data.shards.read import ShardMembers


class ImageRecord(NamedTuple):
    """One image.

    Fields:
        source: where it lies.
        labels: its class names: one, or any number if multi-label.
        part: "train", "val" or "test", or "" where the data do not say what is held out.
        key: its name relative to the data, by which it may be held out.
    """

    source: str
    labels: tuple[str, ...]
    part: str
    key: str


@dataclass(frozen=True)
class DataListing:
    """All entries of some data, the names of its classes in order, and its images if they are not files: embedded
    (uint8 `[N, H, W]`), or in tar shards."""

    entries: list[ImageRecord]
    classes: tuple[str, ...]
    images: np.ndarray | None = None
    members: ShardMembers | None = None


def class_name(text: str) -> str:
    """The class that a folder's name or a label stands for: in NFC, as a Mac writes "é" as two characters elsewhere."""
    return unicodedata.normalize("NFC", text)


def in_class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct class names sorted by name, or as numbers if all of them are integers."""
    distinct = sorted(set(names))
    if all(name.isascii() and name.isdigit() and len(name) < 19 for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a `classes.txt`, one a line. `InputError` if it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return tuple(class_name(line.strip()) for line in lines if line.strip())
