"""Labelme's JSON: a file an image, beside it or in a folder of its own.

FOLDER/a.json   FOLDER/a.jpg      FOLDER/train/a.json   FOLDER/train/a.jpg
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convnext.data.images.decode import MAX_PIXELS, decode_image
from convnext.data.problems import Problems
from convnext.data.rle import place_mask
from convnext.data.sources.annotated import DetectionSet, FoundImage, annotated_set
from convnext.data.sources.coco_fields import ellipse_polygon, is_number, read_side
from convnext.data.sources.documents import ends_of, read_json
from convnext.data.sources.finder import ImageFinder, part_folders, settled_parts
from convnext.data.splits import UNDIVIDED
from convnext.errors import ImageError, InputError

_FIRST = 20
"""Files by which a folder is recognised."""


class LabelmePart(NamedTuple):
    """One part: its JSON files, and the folder below which they and their images lie."""

    files: tuple[Path, ...]
    root: Path


def find_labelme_parts(data: Path) -> dict[str, LabelmePart]:
    """The parts of a folder by name; none for no Labelme."""
    if data.is_file():
        one = data.suffix.lower() == ".json" and is_labelme(data)
        return {UNDIVIDED: LabelmePart((data,), data.parent)} if one else {}
    found = {}
    for part, folder in (part_folders(data) or {UNDIVIDED: data}).items():
        files = tuple(path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".json" and path.is_file())
        if any(is_labelme(file) for file in files[:_FIRST]):
            found[part] = LabelmePart(files, folder)
    return settled_parts(found)


def is_labelme(path: Path) -> bool:
    """Whether a JSON file looks like Labelme's, by its ends."""
    return re.search(rb'"(shapes|imagePath)"\s*:', ends_of(path)) is not None


def read_labelme(part: LabelmePart, faults: Problems) -> DetectionSet:
    """The images of a part; classes are the labels, in the order of their names.

    Rectangles, polygons, circles and masks are objects; those of one label and group are one. Points and lines are
    none. `InputError` where no image can be used.
    """
    images = sorted(_found(part, faults), key=lambda image: image.key)
    if not images:
        raise InputError(f"{part.root}: none of its {len(part.files)} images can be used; {'; '.join(faults.lines())}")
    return annotated_set(images, faults)


def _found(part: LabelmePart, faults: Problems) -> Iterator[FoundImage]:
    find = ImageFinder(part.root)
    for file in part.files:
        try:
            content = read_json(file)
        except InputError as error:
            faults.add("JSON files that cannot be read", str(error))
            continue
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list):
            faults.add("JSON files that are not Labelme's", str(file))
            continue
        name = str(content.get("imagePath") or "")
        near = ImageFinder(file.parent)(name) if name and not name.startswith("..") else None
        image = near or find.of_stem(file.stem) or find(name)
        if image is None:
            faults.add(f"images that are not in {part.root}", find.hint(name) or file.stem)
            continue
        rows: dict[Any, dict[str, Any]] = {}
        for number, shape in enumerate(shapes):
            row = _row(shape)
            if row is None:
                continue
            group = shape.get("group_id")
            known = (row["category"], str(group)) if group is not None else number
            if "segmentation" in row and "segmentation" in rows.get(known, ()) and "bbox" not in row:
                rows[known]["segmentation"] += row["segmentation"]
            else:
                rows[known if known not in rows else number] = row
        size = (content.get("imageWidth"), content.get("imageHeight"))
        yield FoundImage(image, find.key(image), size, [_whole(row, size) for row in rows.values()])


def _row(shape: Any) -> dict[str, Any] | None:
    """An object as COCO's JSON has it; None for what is none."""
    points = shape.get("points") if isinstance(shape, dict) else None
    if not isinstance(points, list):
        return None
    flat = [value for point in points if isinstance(point, list) and len(point) == 2 for value in point]
    kind, row = shape.get("shape_type") or "polygon", {"category": str(shape.get("label", "")).strip()}
    if not all(map(is_number, flat)) or len(flat) != 2 * len(points):
        return {**row, "bbox": None}
    if kind in ("polygon", "rotation", "quadrilateral"):
        return {**row, "segmentation": [flat]}
    if kind not in ("rectangle", "circle", "mask"):
        return None
    if kind == "rectangle" and len(flat) == 8:  # X-AnyLabeling's, of four corners
        flat = [min(flat[0::2]), min(flat[1::2]), max(flat[0::2]), max(flat[1::2])]
    if len(flat) != 4:
        return {**row, "bbox": None}
    x0, y0, x1, y1 = flat
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return {**row, "segmentation": [ellipse_polygon(x0, y0, radius, radius)]}
    box = [min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)]
    if kind == "mask":
        return {**row, "bbox": [box[0], box[1], box[2] + 1, box[3] + 1], "mask": shape.get("mask")}
    return {**row, "bbox": box}


def _whole(row: dict[str, Any], size: tuple[Any, Any]) -> dict[str, Any]:
    """A row whose mask, a picture of the box in base 64, is a code of the whole image."""
    mask, (width, height) = row.pop("mask", None), map(read_side, size)
    if not isinstance(mask, str) or width is None or height is None or width * height > MAX_PIXELS:
        return row
    try:
        small = np.asarray(decode_image(base64.b64decode(mask, validate=True), "L", name="mask")) > 0
    except (ImageError, binascii.Error, ValueError):
        return {**row, "segmentation": "malformed"}
    x, y = (round(value) for value in row["bbox"][:2])
    return {**row, "segmentation": place_mask(small, x, y, width, height)}
