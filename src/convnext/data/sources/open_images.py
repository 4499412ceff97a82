"""Open Images' CSV: a row an object, with its box in parts of the image.

FOLDER/train-annotations-bbox.csv   FOLDER/class-descriptions-boxable.csv   FOLDER/train/ID.jpg
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.images.decode import upright_size_of_file
from convnext.data.problems import NOT_READ, Problems
from convnext.data.sources.annotated import DetectionSet, FoundImage, annotated_set
from convnext.data.sources.documents import ends_of
from convnext.data.sources.finder import IMAGE_FOLDERS, ImageFinder, child, children, part_said, settled_parts
from convnext.data.splits import UNDIVIDED, part_of_name
from convnext.errors import ImageError, InputError

_SIDES = ("XMin", "YMin", "XMax", "YMax")


class OpenImagesPart(NamedTuple):
    """One part: its CSV, that of the names of the classes, the folder of its images, and that of all data."""

    file: Path
    names: Path | None
    images: Path
    root: Path
    part: str


def find_open_images_parts(data: Path) -> dict[str, OpenImagesPart]:
    """The parts of a folder by name, as the names of its CSV files say them; none for no Open Images."""
    root = data if data.is_dir() else data.parent
    above = [root, *(place for name in ("annotations", "labels", "metadata", "csv") if (place := child(root, (name,))))]
    tables = [path for place in above for path in children(place) if path.suffix.lower() == ".csv"]
    names = next((p for p in tables if "class" in p.name.lower() and not _has_boxes(p)), None)
    found: dict[str, OpenImagesPart] = {}
    for path in tables if data.is_dir() else [data]:
        if path.suffix.lower() == ".csv" and _has_boxes(path):
            part = part_said(path.stem) or UNDIVIDED
            places = [root, *(place for place in children(root) if place.name.lower() in IMAGE_FOLDERS)]
            own = [each for place in places for each in children(place) if part_of_name(each.name) == (part or "train")]
            images = next((each for each in own if each.is_dir()), places[-1])
            found.setdefault(part, OpenImagesPart(path, names, images, root, part))
    return settled_parts(found)


def _has_boxes(path: Path) -> bool:
    header = ends_of(path).removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].strip().split(b",")
    return {b"ImageID", b"LabelName", b"XMin"} <= set(header)


def read_open_images(part: OpenImagesPart, faults: Problems) -> DetectionSet:
    """The images of a part that are there, sorted; rows of others are passed over, for few people have all.

    Groups of objects are crowds. `InputError` for a table that cannot be read, or where no image is there.
    """
    find = ImageFinder(part.images, part.root, part.part or None)
    names = {row[0]: row[1] for row in _csv(part.names) if len(row) > 1} if part.names is not None else {}
    header, *lines = _csv(part.file)
    rows: dict[Path, list[dict[str, str]]] = defaultdict(list)
    for line in lines:
        row = dict(zip(header, line, strict=False))
        file = find.of_stem(row.get("ImageID", ""))
        if file is None:
            faults.add("objects of images that are not there", row.get("ImageID", ""))
        else:
            rows[file].append(row)
    if not rows:
        raise InputError(f"{part.file}: none of the images of its {len(lines)} rows is in {part.images}")
    images = []
    for file in sorted(rows):
        try:
            size = upright_size_of_file(file)
        except ImageError as error:
            faults.add(NOT_READ, str(error))
            continue
        images.append(FoundImage(file, find.key(file), size, [_row(row, names, size) for row in rows[file]]))
    return annotated_set(images, faults)


def _row(row: dict[str, str], names: dict[str, str], size: tuple[int, int]) -> dict[str, Any]:
    label = row.get("LabelName", "")
    found: dict[str, Any] = {"category": names.get(label, label), "iscrowd": int(row.get("IsGroupOf") == "1")}
    try:
        x0, y0, x1, y1 = (float(row[side]) * size[at % 2] for at, side in enumerate(_SIDES))
    except (KeyError, ValueError):
        return {**found, "bbox": None}
    return {**found, "bbox": [x0, y0, x1 - x0, y1 - y0]}


def _csv(path: Path) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table in UTF-8 text ({error})") from None
