"""CVAT's XML, "CVAT for images": one file with all images.

FOLDER/annotations.xml   FOLDER/images/a.jpg
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from convnext.data.images.decode import MAX_PIXELS
from convnext.data.problems import Problems
from convnext.data.rle import place_mask
from convnext.data.sources.annotated import DetectionSet, FoundImage, annotated_set
from convnext.data.sources.coco_fields import ellipse_polygon, read_side
from convnext.data.sources.documents import ends_of, read_xml
from convnext.data.sources.finder import IMAGE_FOLDERS, ImageFinder, child, children, part_folders, settled_parts
from convnext.data.splits import UNDIVIDED, part_of_name
from convnext.errors import InputError


class CvatPart(NamedTuple):
    """One part: its XML, the folder of its images, that of all data, and the subset of which its images are."""

    file: Path
    images: Path
    root: Path
    part: str
    subset: bool


def find_cvat_parts(data: Path) -> dict[str, CvatPart]:
    """The parts of a folder, or of an XML file, by name, as folders or the file's subsets have it; none for no CVAT."""
    if data.is_file():
        return _subsets(data, data.parent) if data.suffix.lower() == ".xml" and _is_cvat(data) else {}
    if files := _files(data):
        return _subsets(files[0], data)
    found = {}
    for part, folder in part_folders(data).items():
        if files := _files(folder):
            found[part] = CvatPart(files[0], child(folder, IMAGE_FOLDERS) or folder, folder, part, False)
    return settled_parts(found)


def _files(folder: Path) -> list[Path]:
    return [path for path in children(folder) if path.suffix.lower() == ".xml" and _is_cvat(path)]


def _is_cvat(path: Path) -> bool:
    return b"<annotations" in ends_of(path)


def _subsets(file: Path, root: Path) -> dict[str, CvatPart]:
    images = child(root, IMAGE_FOLDERS) or root
    said = {_subset(element) for element in read_xml(file).findall("image")}
    if said <= {UNDIVIDED} or not said & {"train"}:
        return {UNDIVIDED: CvatPart(file, images, root, UNDIVIDED, False)}
    own = part_folders(images)
    found = {part: CvatPart(file, own.get(part, images), root, part, True) for part in said if part != UNDIVIDED}
    return settled_parts(found)


def _subset(image: Element) -> str:
    return part_of_name(image.get("subset", "")) or UNDIVIDED


def read_cvat(part: CvatPart, faults: Problems) -> DetectionSet:
    """The images of a part, sorted by name; classes are the labels of the task, or else of the objects.

    `InputError` where no image can be used, or for tracks through a video.
    """
    root = read_xml(part.file)
    if root.tag != "annotations":
        raise InputError(f"{part.file}: not CVAT's form: it begins with <{root.tag[:40]}>")
    if root.find("track") is not None and root.find("image") is None:
        raise InputError(f"{part.file}: tracks through a video; export the task as 'CVAT for images'")
    images = sorted(_found(root, part, faults), key=lambda image: image.key)
    if not images:
        raise InputError(f"{part.file}: none of its images can be used; {'; '.join(faults.lines()) or 'it has none'}")
    drawn = [label for label in root.iter("label") if label.find("name") is not None]
    kinds = ("any", "bbox", "rectangle", "polygon", "mask", "ellipse", "")
    drawn = [label for label in drawn if (label.findtext("type") or "").strip() in kinds]
    names = dict.fromkeys((label.findtext("name") or "").strip() for label in drawn)
    return annotated_set(images, faults, tuple(names) or None)


def _found(root: Element, part: CvatPart, faults: Problems) -> Iterator[FoundImage]:
    find = ImageFinder(part.images, part.root)
    for element in root.findall("image"):
        if part.subset and _subset(element) != (part.part or "train"):
            continue
        name = element.get("name", "")
        file = find(name)
        if file is None:
            faults.add(f"images that are not in {part.images}", find.hint(name) or f"image {element.get('id')}")
            continue
        size = read_side(element.get("width")), read_side(element.get("height"))
        rows = [row for each in element if (row := _row(each, size[0] or 0, size[1] or 0)) is not None]
        yield FoundImage(file, find.key(file), size, rows)


def _row(element: Element, width: int, height: int) -> dict[str, Any] | None:
    """An object as COCO's JSON has it; None for what is none, such as points, lines and skeletons."""
    row: dict[str, Any] = {"category": element.get("label", "").strip()}
    try:
        match element.tag:
            case "polygon":
                points = [float(value) for point in element.get("points", "").split(";") for value in point.split(",")]
                return {**row, "segmentation": [points]}
            case "ellipse":
                return {**row, "segmentation": [ellipse_polygon(*_numbers(element, "cx", "cy", "rx", "ry"))]}
            case "box":
                x0, y0, x1, y1 = _numbers(element, "xtl", "ytl", "xbr", "ybr")
                if turn := float(element.get("rotation", 0)):
                    return {**row, "segmentation": [_turned(x0, y0, x1, y1, math.radians(turn))]}
                return {**row, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            case "mask":
                x, y, w, h = (int(value) for value in _numbers(element, "left", "top", "width", "height"))
                runs = [int(run) for run in element.get("rle", "").split(",")]
                if min(w, h, *runs) < 0 or sum(runs) != w * h or width * height > MAX_PIXELS:
                    return {**row, "bbox": [x, y, w, h], "segmentation": "malformed"}
                mask = np.repeat(np.arange(len(runs)) % 2, runs).reshape(h, w).astype(np.uint8)
                return {**row, "bbox": [x, y, w, h], "segmentation": place_mask(mask, x, y, width, height)}
    except (ValueError, OverflowError):
        return {**row, "bbox": None}
    return None


def _numbers(element: Element, *names: str) -> list[float]:
    return [float(element.get(name, "")) for name in names]


def _turned(x0: float, y0: float, x1: float, y1: float, turn: float) -> list[float]:
    """The corners of a box turned around its centre."""
    x, y, cos, sin = (x0 + x1) / 2, (y0 + y1) / 2, math.cos(turn), math.sin(turn)
    corners = ((x0 - x, y0 - y), (x1 - x, y0 - y), (x1 - x, y1 - y), (x0 - x, y1 - y))
    return [value for dx, dy in corners for value in (x + dx * cos - dy * sin, y + dx * sin + dy * cos)]
