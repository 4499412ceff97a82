"""The list of labelled images that folders, tables and shards are all read into."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from convnext.errors import InputError


class Members(Protocol):
    """N images that are no files of their own: in tar shards, columns of tables, or boxes of other images."""

    def take(self, chosen: Any) -> Self:
        """The chosen images alone."""

    def joined(self, others: Sequence[Self]) -> Self:
        """Concatenate with other selections from the same data."""

    def read(self, index: int) -> bytes:
        """An image's bytes. `ImageError` if they cannot be read."""

    def identity(self, index: int) -> bytes:
        """Bytes that tell an image from another of its name."""

    def sizes(self) -> Sequence[int] | None:
        """Bytes of each image; None where they would have to be fetched or decoded to know them."""

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All positions in a random order, in which little is fetched or decoded twice."""

    def read_ahead(self, order: Sequence[int]) -> AbstractContextManager[Any]:
        """Inside, what has to be fetched is fetched before its turn, if anything has to be."""


def concatenated(selections: Sequence[Members], fields: Sequence[str]) -> dict[str, Any]:
    """Arrays of each field, of all selections one after another: fields of the `Members` that they are together."""
    return {name: np.concatenate([getattr(each, name) for each in selections]) for name in fields}


def shuffled_groups(places: Sequence[np.ndarray], kept: int, rng: np.random.Generator) -> np.ndarray:
    """All positions in a random order that reads from about `kept` groups at a time.

    Positions are of one group where all arrays of `places` are equal. Groups are begun one after the other, in a random
    order, and the images of each are spread over the time in which as many others are begun as can be kept beside it.
    """
    _, group = np.unique(np.stack(places), axis=1, return_inverse=True)
    begun = rng.permutation(int(group.max(initial=0)) + 1)[group.ravel()]
    return np.argsort(begun + (kept - 1) * rng.random(len(begun)), kind="stable")


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


class Member(NamedTuple):
    """One of `members`, as a binary file that `images.decode.read_image` takes."""

    record: ImageRecord
    members: Members
    place: int

    @property
    def name(self) -> str:
        """The image's place in the data, by which errors name it."""
        return self.record.source

    def read(self) -> bytes:
        """The image's bytes. `ImageError` if they cannot be read."""
        return self.members.read(self.place)


@dataclass(frozen=True)
class DataListing:
    """All entries of some data, the names of its classes in order, and its images if they are not files: embedded
    (uint8 `[N, H, W]`), or parts of other files."""

    entries: list[ImageRecord]
    classes: tuple[str, ...]
    images: np.ndarray | None = None
    members: Members | None = None


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
