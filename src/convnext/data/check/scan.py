"""One pass over all images: what each file is, its hashes and a thumbnail, on all cores.

A row of `ROW` an image stays in memory, 0.7 kB whatever its size; thumbnails go to a temporary file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext.data.check.hashes import BITS, SIDE, WINDOWS, hashes_of, transform
from convnext.data.check.part import CheckedPart
from convnext.data.images.decode import as_mode, decode_image, orientation, upright_size
from convnext.data.loading import Batches, Items, Loader

SCAN_BATCH = 64
_DECODED = 2 * SIDE
"""Pixels of the short side down to which a JPEG may be decoded smaller."""

ROW = np.dtype(
    [
        ("digest", "u8", 2),
        ("bytes", "i8"),
        ("width", "u4"),
        ("height", "u4"),
        ("orientation", "u1"),
        ("channels", "u1"),
        ("bits", "u1"),
        ("brightness", "f4"),
        ("contrast", "f4"),
        ("frequencies", "f2", BITS),
        ("hashes", "u8", len(WINDOWS)),
    ]
)
"""Facts of an image: digest of its file's content, sizes (upright), EXIF orientation, channels and bits of a channel as
stored, mean and standard deviation of its grey values, 0 to 255, and `hashes` of the whole and its windows."""

_MODES = {
    "1": (1, 1), "L": (1, 8), "P": (3, 8), "I": (1, 32), "F": (1, 32), "LA": (2, 8), "PA": (4, 8), "La": (2, 8),
    "RGB": (3, 8), "YCbCr": (3, 8), "LAB": (3, 8), "HSV": (3, 8), "RGBA": (4, 8), "RGBa": (4, 8), "CMYK": (4, 8),
}  # fmt: skip
"""Channels and bits of Pillow's modes, but for those of 16-bit grey."""


class Thumbnails:
    """Grey thumbnails `[64, 64]` in a file, by the place of their image."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._places: dict[int, int] = {}

    def add(self, place: int, thumbnail: np.ndarray) -> None:
        """Write the thumbnail of an image behind the others."""
        os.write(self._file, thumbnail.tobytes())
        self._places[place] = len(self._places)

    def read(self, places: Sequence[int]) -> np.ndarray:
        """The thumbnails of some images, float32 `[n, 64, 64]`."""
        size = SIDE * SIDE
        found = [os.pread(self._file, size, self._places[place] * size) for place in places]
        return np.frombuffer(b"".join(found), np.uint8).reshape(-1, SIDE, SIDE).astype(np.float32)


@contextmanager
def thumbnail_file() -> Iterator[Thumbnails]:
    """Inside, a place for thumbnails, which is gone at the end; it has no name that others could find it by."""
    with tempfile.TemporaryFile(prefix="convnext-check-") as file:
        yield Thumbnails(file.fileno())


@dataclass(frozen=True)
class Scan:
    """All images of some parts, one after another.

    Args:
        parts: their names, by the place of an image.
        paths: of the images, relative to the data.
        classes: the class of each image, where it has exactly one; else None.
        rows: of `ROW`.
        unreadable: why an image cannot be read, by its place.
        thumbnails: of the others.
    """

    parts: list[str]
    paths: list[str]
    classes: list[str | None]
    rows: np.ndarray
    unreadable: dict[int, str]
    thumbnails: Thumbnails

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def readable(self) -> np.ndarray:
        """Places of the images that can be read."""
        return np.array([place for place in range(len(self)) if place not in self.unreadable], dtype=np.int64)


def scan_images(
    parts: Sequence[CheckedPart],
    thumbnails: Thumbnails,
    relative: Callable[[str], str],
    *,
    workers: int,
    white: int,
    advance: Callable[[int], None],
) -> Scan:
    """Reads every image of all parts once.

    Args:
        parts: what is read.
        thumbnails: where thumbnails go.
        relative: gives a source's path relative to the data.
        workers: processes that read; 0 reads here.
        white: the value of 16-bit images that is white.
        advance: is told how many more are done.
    """
    names = [part.name for part in parts for _ in part.sources]
    paths = [relative(source) for part in parts for source in part.sources]
    rows = np.zeros(len(paths), ROW)
    unreadable: dict[int, str] = {}
    start = 0
    for part in parts:
        loader = _loader(part, white, workers)
        try:
            for batch in loader:
                for place, row, thumbnail in zip(batch.places, batch.rows, batch.thumbnails, strict=True):
                    rows[start + place] = row
                    thumbnails.add(start + place, thumbnail)
                unreadable.update({start + place: reason for place, reason in batch.unreadable})
                advance(len(batch.places) + len(batch.unreadable))
        finally:
            loader.close()
        start += len(part)
    return Scan(names, paths, _single_classes(parts), rows, unreadable, thumbnails)


def _loader(part: CheckedPart, white: int, workers: int) -> Loader:
    order = range(len(part))
    batches = Batches(lambda epoch: order, -(-len(part) // SCAN_BATCH), SCAN_BATCH, list(range(SCAN_BATCH)), part.ahead)
    return Loader(_Scanned(part, white), batches, workers, persistent=False)


def _single_classes(parts: Sequence[CheckedPart]) -> list[str | None]:
    return [
        part.classes[part.labels[index][0]] if part.exclusive else None for part in parts for index in range(len(part))
    ]


class _Batch(NamedTuple):
    places: list[int]
    rows: np.ndarray
    thumbnails: np.ndarray
    unreadable: list[tuple[int, str]]


class _Scanned(Items):
    """Rows and thumbnails of the images of one part."""

    def __init__(self, part: CheckedPart, white: int) -> None:
        super().__init__(seed=0, refill=False)
        self.part, self.white = part, white

    def source(self, index: int) -> str:
        return self.part.sources[index]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return facts_of(self.part.content(index), self.part.sources[index], self.white)

    def batch(self, readable: list[tuple[int, tuple]], unreadable: list[tuple[int, str]]) -> _Batch:
        rows = np.array([row for _, (row, _) in readable], ROW)
        thumbnails = np.array([each for _, (_, each) in readable], np.uint8)
        return _Batch([place for place, _ in readable], rows, thumbnails, unreadable)


def facts_of(content: bytes, name: str, white: int) -> tuple[np.ndarray, np.ndarray]:
    """The `ROW` of an image file's content, and its thumbnail uint8 `[64, 64]`. `ImageError` if it cannot be read."""
    width, height = upright_size(content, name=name)
    reduction = next(by for by in (8, 4, 2, 1) if by == 1 or min(width, height) >= by * _DECODED)
    stored = decode_image(content, None, name=name, reduction=reduction, white=white)
    small = np.asarray(as_mode(stored, "L", white).resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3))
    frequencies = transform(small)
    row = np.zeros((), ROW)
    row["digest"] = np.frombuffer(blake2b(content, digest_size=16).digest(), np.uint64)
    channels, bits = _MODES.get(stored.mode, (1, 16))
    row["bytes"], row["width"], row["height"] = len(content), width, height
    row["orientation"], row["channels"], row["bits"] = orientation(content), channels, bits
    row["brightness"], row["contrast"] = small.mean(), small.std()
    row["frequencies"], row["hashes"] = frequencies[0], hashes_of(frequencies)
    return row, small
