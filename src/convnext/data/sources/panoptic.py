"""Panoptic COCO as label maps: pictures whose colours are segments, and a JSON file with the class of each segment.

FOLDER/annotations/panoptic_train2017.json   FOLDER/annotations/panoptic_train2017/a.png   FOLDER/train2017/a.jpg

A segment's id is red + 256·green + 256²·blue; 0 is no segment, and is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convnext.data.problems import Problems
from convnext.data.sources.coco import CocoPart, categories_of, id_of_row, rows_in
from convnext.data.sources.coco_fields import Id, read_id
from convnext.data.sources.documents import read_json
from convnext.data.sources.finder import ImageFinder
from convnext.data.sources.label_maps import HIGHEST, IGNORED, LOWEST, UNKNOWN, SegmentationSet
from convnext.data.sources.maps import MappedImage
from convnext.errors import InputError

PanopticClasses = Mapping[int, str]
"""Name of the class of each colour, red·65,536 + green·256 + blue."""


def read_panoptic_parts(parts: Mapping[str, CocoPart], faults: Problems) -> dict[str, SegmentationSet]:
    """The images of each part; classes are the categories of the part read first, which is train.

    `InputError` for a file that is not panoptic COCO's, a part of which no image can be used, or one with segments of
    classes that the first does not have.
    """
    classes: tuple[str, ...] | None = None
    found = {}
    for name, part in parts.items():
        names, images = _read(part, faults)
        classes = names if classes is None else classes
        other = sorted({label for _, segments in images for label in segments.values()} - set(classes))
        if other:
            raise InputError(
                f"{part.files[0]}: segments of classes that are not among the others': {', '.join(other[:5])}"
            )
        found[name] = _set(classes, images)
    return found


def _set(classes: Sequence[str], images: Sequence[tuple[MappedImage, PanopticClasses]]) -> SegmentationSet:
    table = np.full(HIGHEST - LOWEST + 1, UNKNOWN, dtype=np.int16)
    table[-LOWEST : len(classes) - LOWEST] = np.arange(len(classes))
    table[-1 - LOWEST] = IGNORED
    label = {name: number for number, name in enumerate(classes)}
    segments = {image.map: {0: -1, **{colour: label[name] for colour, name in own.items()}} for image, own in images}
    return SegmentationSet(tuple(classes), table, tuple(image for image, _ in images), segments=segments)


def _read(part: CocoPart, faults: Problems) -> tuple[tuple[str, ...], list[tuple[MappedImage, PanopticClasses]]]:
    """The classes and the images of a part's files."""
    classes: dict[str, None] = {}
    images = []
    for file in part.files:
        names, own = _read_file(file, part, faults)
        classes |= dict.fromkeys(names.values())
        images += own
    if not images:
        raise InputError(f"{part.files[0]}: none of its images can be used; {'; '.join(faults.lines())}")
    return tuple(classes), sorted(images, key=lambda pair: pair[0].key)


def _read_file(
    file: Path, part: CocoPart, faults: Problems
) -> tuple[dict[Id, str], list[tuple[MappedImage, PanopticClasses]]]:
    content = read_json(file)
    rows = {id_of_row(row): row for row in rows_in(file, content, "images")}
    maps = rows_in(file, content, "annotations")
    names = categories_of(file, content, {_category(segment) for row in maps for segment in _segments(row)}, faults)
    find = ImageFinder(part.images, part.root, part.part or None)
    find_map = ImageFinder(file.with_suffix(""), file.parent)
    images: list[tuple[MappedImage, PanopticClasses]] = []
    for row in maps:
        id, name = read_id(row.get("image_id")), str(row.get("file_name", ""))
        image = rows.pop(id, None) if id is not None else None
        if image is None:
            faults.add("label maps of images that are not listed", f"{name}: image {row.get('image_id')}")
            continue
        of_image = str(image.get("file_name", ""))
        path, picture = find(of_image), find_map(name)
        if path is None:
            faults.add(f"images that are not in {part.images}", find.hint(of_image))
        elif picture is None or picture == path:
            faults.add(f"label maps that are not in {file.with_suffix('')}", find_map.hint(name))
        else:
            read = [(_colour(segment), _category(segment)) for segment in _segments(row)]
            own = {c: names[category] for c, category in read if c is not None and category in names}
            if len(own) < len(read):
                faults.add("images with segments without an id, or of categories that are not listed", of_image)
            else:
                images.append((MappedImage(path, picture, find.key(path, of_image)), own))
    for id in rows:
        faults.add("images without a label map", str(rows[id].get("file_name", id)))
    return names, images


def _segments(row: dict[str, Any]) -> list[dict[str, Any]]:
    segments = row.get("segments_info")
    return [each for each in segments if isinstance(each, dict)] if isinstance(segments, list) else []


def _category(segment: dict[str, Any]) -> Id | None:
    return read_id(segment.get("category_id"))


def _colour(segment: dict[str, Any]) -> int | None:
    """The colour that stands for a segment, red first."""
    id = read_id(segment.get("id"))
    if not isinstance(id, int) or not 0 < id < 2**24:
        return None
    return (id & 255) << 16 | id & 0xFF00 | id >> 16
