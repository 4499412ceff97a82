"""Images with a map each: a picture of the same size, at the same place in another folder.

    FOLDER/images/train/a/1.jpg   FOLDER/annotations/train/a/1.png

Folders called train, val or test (or training, valid, validation, dev, testing) in both are parts. Without any, and of
train alone, nothing says what is held out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext.data.images.decode import WHITE
from convnext.data.problems import Problems
from convnext.data.sources.file_set import ImageFileSet
from convnext.data.sources.image_files import find_images, say_unread
from convnext.data.splits import UNDIVIDED, held_out_part, part_of_name
from convnext.errors import ImageError, InputError


class MappedImage(NamedTuple):
    """An image's file and its map's; `key` is the image's name relative to the data."""

    file: Path
    map: Path
    key: str


class MappedSet(ImageFileSet, ABC):
    """Images with maps, of one part; an immutable dataclass with these fields."""

    classes: tuple[str, ...]
    images: tuple[MappedImage, ...]

    @abstractmethod
    def open(self, index: int, white: int = WHITE) -> tuple[Image.Image, np.ndarray]:
        """Image `index`, and its map `[H, W]` as the task reads it. `ImageError` if one of the two cannot be read."""


def find_map_parts(data: str | Path, maps: str) -> dict[str, str]:
    """The folders in images/ that are parts, by the part's name; "" stands for train alone, or for all of images/.

    `maps` is the name of the folder of maps. `InputError` for a folder in another layout.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"{data}: no such folder")
    for name in ("images", maps):
        if not (folder / name).is_dir():
            raise InputError(f"{data}: no folder '{name}' in it; images lie in images/, and their maps in {maps}/")
    found = {part: path.name for path in sorted((folder / "images").iterdir()) if (part := part_of_name(path.name))}
    if held_out_part(found) is None:
        return {UNDIVIDED: found.get("train", "")}
    return found


def find_pairs(folder: Path, split: str, maps: str, faults: Problems, *, kind: str) -> tuple[MappedImage, ...]:
    """Images with their maps, which have the same path but for the suffix; `kind` is what faults call a map."""
    images, place = folder / "images" / split, folder / maps / split
    there = {path.relative_to(place).with_suffix(""): path for path in find_images(place)}
    pairs, unread = [], Counter[str]()
    for path in find_images(images, unread):
        found = there.pop(path.relative_to(images).with_suffix(""), None)
        if found is None:
            faults.add(f"images without a {kind}", str(path))
        else:
            pairs.append(MappedImage(path, found, path.relative_to(images).as_posix()))
    for path in there.values():
        faults.add(f"{kind}s without an image", str(path))
    say_unread(unread)
    return tuple(pairs)


def check_sizes(image: MappedImage, size: tuple[int, int], values: np.ndarray, *, kind: str) -> None:
    """`ImageError` for an image, of `size` width and height, and a map `[H, W]` that differ."""
    if size != (values.shape[1], values.shape[0]):
        raise ImageError(
            f"{image.file}: {size[0]}×{size[1]} pixels, and its {kind} {values.shape[1]}×{values.shape[0]}"
        )
