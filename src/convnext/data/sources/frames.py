"""Images in files that hold several, the frames of videos and the pages of TIFFs, to use without labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from convnext.data.images.costly import reason_to_refuse
from convnext.data.images.decode import MAX_PIXELS, read_bytes
from convnext.data.images.video import VIDEO_SUFFIXES, count_frames, read_frames
from convnext.data.problems import Problems, log_left_out
from convnext.data.sources.records import DataListing, ImageRecord, concatenated, shuffled_groups
from convnext.errors import ImageError, InputError

FRAME_RATE = 1.0
"""Frames of a second of video, where nothing else is said."""
MOST_RATE = 1000.0
FRAMES_TOGETHER, GROUPS_DECODED = 8, 2
"""Frames of a video that are decoded together, and how many such groups a process keeps."""
WHOLE = -1
"""Number of the image in a file that is one."""
_NO_IMAGE = 1 | 4
"""Bits of TIFF's NewSubfileType: a smaller copy of another page, and a mask."""


@dataclass(frozen=True)
class Frames:
    """Places of N images: of each its file, and its number in it, or `WHOLE`; of videos, `rate` frames a second."""

    files: tuple[str, ...]
    file: np.ndarray
    number: np.ndarray
    rate: float

    def take(self, chosen: list[int] | slice) -> Frames:
        """The chosen images alone."""
        return replace(self, file=self.file[chosen], number=self.number[chosen])

    def joined(self, others: Sequence[Frames]) -> Frames:
        """Concatenate with other selections from the same files."""
        return replace(self, **concatenated((self, *others), ("file", "number")))

    def read(self, index: int) -> bytes:
        """An image's bytes: a file's own, else of an uncompressed picture. `ImageError` if it cannot be read."""
        file, number = self.files[int(self.file[index])], int(self.number[index])
        if number == WHOLE:
            return read_bytes(file)
        if Path(file).suffix.lower() not in VIDEO_SUFFIXES:
            return _page(file, number)
        content = io.BytesIO()
        _group(file, self.rate, number // FRAMES_TOGETHER)[number % FRAMES_TOGETHER].save(content, format="BMP")
        return content.getvalue()

    def sizes(self) -> None:
        """None: the sizes of images are not known before they are decoded."""

    def read_ahead(self, order: Sequence[int]) -> AbstractContextManager[None]:
        """Nothing has to be fetched."""
        return nullcontext()

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All positions in a random order that decodes a few groups of frames at a time."""
        return shuffled_groups((self.file, self.number // FRAMES_TOGETHER), GROUPS_DECODED, rng)

    def identity(self, index: int) -> bytes:
        """Bytes that tell an image from another of its name."""
        try:
            size = Path(self.files[int(self.file[index])]).stat().st_size
        except OSError:
            return b""
        return f"{size} {self.number[index]}".encode()


def read_frame_listing(folder: Path, files: Sequence[Path], rate: float) -> DataListing:
    """The images in some files of a folder, without labels, to train on; those that cannot be read are logged.

    Where every file is one image, they are listed as files. `InputError` where nothing can be read.
    """
    if not 0 < rate <= MOST_RATE:
        raise InputError(f"frame rate must lie between 0 and {MOST_RATE}, not {rate}")
    faults = Problems()
    counts = {path: _count(path, rate, faults) for path in files}
    entries, places = [], []
    for number, path in enumerate(files):
        key = path.relative_to(folder).as_posix()
        several = counts[path] != WHOLE
        for frame in range(counts[path]) if several else (WHOLE,):
            mark = f"#{frame}" if several else ""
            entries.append(ImageRecord(f"{path}{mark}", (), "train", f"{key}{mark}"))
            places.append((number, frame))
    log_left_out(folder, faults)
    if not entries:
        raise InputError(f"{folder}: none of its images can be read; {'; '.join(faults.lines())}")
    if set(counts.values()) == {WHOLE}:
        return DataListing(entries, ())
    at = np.array(places, dtype=np.int64).reshape(-1, 2).T
    return DataListing(entries, (), members=Frames(tuple(map(str, files)), at[0], at[1], rate))


def _count(path: Path, rate: float, faults: Problems) -> int:
    """Number of images in a file, or `WHOLE`."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        try:
            return count_frames(path, rate)
        except ImageError as error:
            faults.add("videos that cannot be read", str(error))
            return 0
    if path.suffix.lower() not in (".tif", ".tiff"):
        return WHOLE
    return WHOLE if (pages := len(_pages(str(path)))) < 2 else pages


@lru_cache(maxsize=64)
def _pages(file: str) -> tuple[int, ...]:
    """The pages of a TIFF that are images of their own; none of a file that is damaged, which reading it says."""
    found = []
    try:
        with Image.open(file, formats=["TIFF"]) as image:
            for page in range(getattr(image, "n_frames", 1)):
                image.seek(page)
                if not image.tag_v2.get(254, 0) & _NO_IMAGE:  # type: ignore[attr-defined]  # TIFFs' own
                    found.append(page)
    except MemoryError:
        raise
    except Exception:  # damaged files raise nearly anything
        return ()
    return tuple(found)


def _page(file: str, number: int) -> bytes:
    try:
        if reason := reason_to_refuse(read_bytes(file)):
            raise ImageError(f"{file}: {reason}")
        with Image.open(file, formats=["TIFF"]) as image:
            image.seek(_pages(file)[number])
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{file}, page {number}: {image.width}×{image.height} pixels are more than are read")
            content = io.BytesIO()
            image.copy().save(content, format="TIFF", compression=None)
            return content.getvalue()
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # as above
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ImageError(f"{file}, page {number}: damaged or unsupported image ({reason})") from None


@lru_cache(maxsize=GROUPS_DECODED)
def _group(file: str, rate: float, group: int) -> list[Image.Image]:
    return read_frames(Path(file), rate, FRAMES_TOGETHER * group, FRAMES_TOGETHER)
