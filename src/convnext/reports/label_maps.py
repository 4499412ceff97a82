"""A segmenter's answers in the forms that annotation programs import: label maps to correct, or their outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from convnext.data.rle import place_mask
from convnext.data.sources.label_maps import BACKGROUND
from convnext.errors import InputError, nearest
from convnext.inference.draw import colours, index_picture
from convnext.reports.prelabels import PredictedImage, names_below, write_objects
from convnext.storage.files import make_folder, whole_file

OUTLINES = ("coco", "yolo", "labelme")
"""Forms of `prelabels.OBJECT_FORMS` in which pieces of label maps are written."""
MAP_FORMS = ("maps", "voc", *OUTLINES)
"""Forms in which label maps are written."""


class LabelMapWriter:
    """Writes the label maps of images into a folder, one by one, and at the end what lists them.

    `maps` are pictures of class numbers in `masks/`, named by `classes.txt`; `voc` those in `SegmentationClass/`, with
    the colours of `labelmap.txt`, as CVAT takes them; of the others every connected piece of a class is an object.

    Args:
        form: one of `MAP_FORMS`.
        folder: where to write, made if it is not there.
        classes: names by number.
        paths: all images.

    Raises:
        InputError: another form, or one that has one file for two of the images.
    """

    def __init__(self, form: str, folder: Path, classes: Sequence[str], paths: Sequence[str]) -> None:
        if form not in MAP_FORMS:
            raise InputError(f"--format {form} is none of a segmenter's; {nearest(form, list(MAP_FORMS))}")
        self.form, self.folder, self.classes = form, folder, list(classes)
        self.names = dict(zip(paths, names_below(paths), strict=True))
        self.pieces: list[PredictedImage] = []
        self.written: list[str] = []
        make_folder(folder)

    def add(self, path: str, labels: np.ndarray) -> None:
        """One image's label map `[H, W]`."""
        if self.form in OUTLINES:
            self.pieces.append(PredictedImage(path, labels.shape[1], labels.shape[0], pieces(labels, self.classes)))
            return
        folder = "masks" if self.form == "maps" else "SegmentationClass"
        place = self.folder / folder / PurePosixPath(self.names[path]).with_suffix(".png")
        make_folder(place.parent)
        with whole_file(place) as temporary:
            index_picture(labels, self._colours()).save(temporary, format="PNG")
        self.written.append(PurePosixPath(self.names[path]).with_suffix("").as_posix())

    def finish(self) -> None:
        """Write the list of classes and of images."""
        if self.form in OUTLINES:
            write_objects(self.form, self.folder, self.classes, self.pieces)
        elif self.form == "maps":
            self._write("classes.txt", self.classes)
        else:
            rows = zip(self.classes, self._colours(), strict=True)
            lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in rows]
            self._write("labelmap.txt", ["# label:color_rgb:parts:actions", *lines])
            self._write("ImageSets/Segmentation/default.txt", self.written)

    def _colours(self) -> list[tuple[int, int, int]]:
        """A colour a class; black of what is around all others."""
        found = zip(self.classes, colours(len(self.classes)), strict=True)
        return [(0, 0, 0) if name.lower() in BACKGROUND else colour for name, colour in found]

    def _write(self, name: str, lines: Sequence[str]) -> None:
        make_folder((self.folder / name).parent)
        with whole_file(self.folder / name) as path:
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def pieces(labels: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The connected pieces of each class in a label map `[H, W]`, but of the background, as COCO's JSON has objects:
    "category", "bbox", "area" and "segmentation", a run-length code. Pixels are connected by their edges."""
    from scipy import ndimage

    height, width = labels.shape
    rows = []
    for label in np.unique(labels).tolist():
        if classes[label].lower() in BACKGROUND:
            continue
        numbers, _ = ndimage.label(labels == label)
        for number, (ys, xs) in enumerate(ndimage.find_objects(numbers), start=1):
            mask = numbers[ys, xs] == number
            row = {
                "category": classes[label],
                "bbox": [xs.start, ys.start, mask.shape[1], mask.shape[0]],
                "area": int(mask.sum()),
                "segmentation": place_mask(mask.astype(np.uint8), xs.start, ys.start, width, height),
            }
            rows.append(row)
    return rows
