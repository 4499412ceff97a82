"""Boxes of objects as images of their own, to classify: any form of detection data, read as a set of crops."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from convnext.data.images.decode import WHITE, as_mode
from convnext.data.problems import log_problems
from convnext.data.sources.annotated import decode_annotated
from convnext.data.sources.detection import read_annotated
from convnext.data.sources.records import DataListing, ImageRecord, concatenated
from convnext.errors import InputError

LISTS = (".json", ".yaml", ".yml", ".xml")
"""Suffixes of files that list images with their objects."""
KEPT_BY_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")
"""Pillow's modes that a PNG file keeps."""


@dataclass(frozen=True)
class Crops:
    """N boxes of objects, each in an image file: int `[N, 4]`, x0, y0, x1, y1 in pixels, of an image whose width and
    height are int `[N, 2]` in `sides`."""

    files: tuple[str, ...]
    boxes: np.ndarray
    sides: np.ndarray

    def take(self, chosen: list[int] | slice) -> Crops:
        """The chosen boxes alone."""
        places = range(len(self.files))[chosen] if isinstance(chosen, slice) else chosen
        return Crops(tuple(self.files[place] for place in places), self.boxes[chosen], self.sides[chosen])

    def joined(self, others: Sequence[Crops]) -> Crops:
        """Concatenate with other boxes."""
        every = (self, *others)
        return Crops(tuple(file for each in every for file in each.files), **concatenated(every, ("boxes", "sides")))

    def read(self, index: int) -> bytes:
        """Pixels inside a box, as a PNG file. `ImageError` if the image cannot be read, or its boxes are for another
        size."""
        width, height = self.sides[index].tolist()
        image = decode_annotated(self.files[index], width, height, None)
        file = io.BytesIO()
        part = kept_by_png(image).crop(tuple(self.boxes[index].tolist()))
        part.save(file, format="PNG", compress_level=1)
        return file.getvalue()

    def sizes(self) -> None:
        """None: the sizes of images are not known before they are decoded."""

    def read_ahead(self, order: Sequence[int]) -> AbstractContextManager[None]:
        """Nothing has to be fetched."""
        return nullcontext()

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All positions in a random order."""
        return rng.permutation(len(self.files))

    def identity(self, index: int) -> bytes:
        """Bytes that tell an image from another of its name; its crops, which are held out together, have the same."""
        try:
            return str(Path(self.files[index]).stat().st_size).encode()
        except OSError:
            return b""


def kept_by_png(image: Image.Image) -> Image.Image:
    """An image in a mode that a PNG file keeps; before it is cut, since some are scaled by the range of all pixels."""
    if image.mode == "I":
        pixels = np.asarray(image)
        return image.convert("I;16") if pixels.min() >= 0 and pixels.max() <= WHITE else as_mode(image, "RGB")
    return image if image.mode in KEPT_BY_PNG else as_mode(image, "RGB")


def read_crops(data: str | Path, form: str | None) -> DataListing:
    """Every object of detection data, but crowds, as an image with its class; those of one image have its name as key.

    What was wrong with the data is said in the log. `InputError` for data of no form that is read, or without objects.
    """
    parts, faults = read_annotated(data, form=form)
    log_problems(data, faults)
    entries, files, boxes, sides = [], [], [], []
    for part, images in parts.items():
        for image in images.images:
            for number, each in enumerate(image.annotations):
                if each.crowd:
                    continue
                x0, y0, x1, y1 = each.box
                name = images.classes[each.label]
                entries.append(ImageRecord(f"{image.file}#{number}", (name,), part, image.key))
                files.append(str(image.file))
                sides.append((image.width, image.height))
                boxes.append((int(x0), int(y0), max(int(x0) + 1, round(x1)), max(int(y0) + 1, round(y1))))
    if not entries:
        raise InputError(f"{data}: no objects in its annotations")
    used = {entry.labels[0] for entry in entries}
    listed = tuple(name for name in next(iter(parts.values())).classes if name in used)
    members = Crops(tuple(files), np.array(boxes, dtype=np.int64), np.array(sides, dtype=np.int64))
    return DataListing(entries, listed, members=members)
