"""Pascal VOC's XML: a file an image.

    FOLDER/Annotations/a.xml   FOLDER/JPEGImages/a.jpg   FOLDER/ImageSets/Main/train.txt, a name a line
    FOLDER/train/a.xml         FOLDER/train/a.jpg

Pixels are counted from 1. Objects marked as difficult are neither trained on nor measured, like crowds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from convnext.data.problems import Problems
from convnext.data.sources.annotated import DetectionSet, FoundImage, annotated_set
from convnext.data.sources.documents import ends_of, read_text_file, read_xml
from convnext.data.sources.finder import (
    IMAGE_FOLDERS,
    ImageFinder,
    child,
    children,
    part_folders,
    part_said,
    settled_parts,
)
from convnext.data.splits import UNDIVIDED
from convnext.errors import InputError


class VocPart(NamedTuple):
    """One part: its XML files, the folder of its images, and the folder of all data."""

    files: tuple[Path, ...]
    images: Path
    root: Path
    part: str


def find_voc_parts(data: Path) -> dict[str, VocPart]:
    """The parts of a folder by name, from ImageSets/Main or from folders; none for no VOC."""
    if not data.is_dir():
        return {}
    root = voc_root(data)
    annotations = child(root, ("annotations", "labels", "xml", "xmls"))
    images = child(root, IMAGE_FOLDERS)
    if annotations is not None and annotations.is_dir() and (sets := image_sets(root, "main")):
        named = {part: tuple(annotations / f"{name}.xml" for name in names) for part, names in sets.items()}
        some = next((file for files in named.values() for file in files if file.is_file()), None)
        if some is not None and _is_voc(some):
            # Its images lie together: a part is a list.
            return settled_parts({p: VocPart(files, images or root, root, "") for p, files in named.items()})
    found = {}
    for part, (above, beside) in _folders(root, annotations, images).items():
        files = tuple(path for path in sorted(above.rglob("*")) if path.suffix.lower() == ".xml")
        if files and _is_voc(files[0]):
            found[part] = VocPart(files, beside, root, part)
    return settled_parts(found)


def _folders(root: Path, annotations: Path | None, images: Path | None) -> dict[str, tuple[Path, Path]]:
    """The folders of XML files and of images, by part: parts below Annotations/, or in the data itself."""
    if annotations is not None and annotations.is_dir():
        inside = part_folders(images) if images is not None else {}
        parts = {part: (path, inside.get(part, images or root)) for part, path in part_folders(annotations).items()}
        return parts or {UNDIVIDED: (annotations, images or root)}
    parts = {}
    for part, path in part_folders(root).items():
        parts[part] = (child(path, ("annotations", "labels", "xml")) or path, child(path, IMAGE_FOLDERS) or path)
    return parts or {UNDIVIDED: (root, images or root)}


def voc_root(data: Path) -> Path:
    """The folder of the last year's data, where there is one below `VOCdevkit/`; else the folder itself."""
    kit = child(data, ("vocdevkit",)) or data
    years = [path for path in children(kit) if path.name.lower().startswith("voc2") and path.is_dir()]
    return years[-1] if years else kit


def image_sets(root: Path, kind: str) -> dict[str, list[str]]:
    """The names of the images of each part, from the lists in ImageSets/Main or another kind's; none without them."""
    sets = child(root, ("imagesets",))
    main = sets and (child(sets, (kind,)) or sets)
    lists = {path.stem.lower(): path for path in children(main) if path.suffix == ".txt"} if main else {}
    found = {}
    for stem in ("train", "val", "test", "trainval"):
        if stem in lists:
            part = part_said(stem)
            assert part is not None
            lines = (line.strip() for line in read_text_file(lists[stem]).splitlines())
            found[part] = [re.sub(r"\s+-?[01]$", "", line) for line in lines if line]
    return {part: names for part, names in found.items() if names}


def _is_voc(path: Path) -> bool:
    return b"<annotation" in ends_of(path) and b"<annotations" not in ends_of(path)


def read_voc(part: VocPart, faults: Problems) -> DetectionSet:
    """The images of a part, sorted by the names of their XML files; classes are in the order of their names.

    `InputError` where no image can be used.
    """
    images = list(_found(part, faults))
    if not images:
        raise InputError(f"{part.root}: none of its {len(part.files)} images can be used; {'; '.join(faults.lines())}")
    return annotated_set(sorted(images, key=lambda image: image.key), faults)


def _found(part: VocPart, faults: Problems) -> Iterator[FoundImage]:
    find = ImageFinder(part.images, part.root, part.part or None)
    for file in part.files:
        if not file.is_file():
            faults.add("images that are listed and have no XML", file.name)
            continue
        try:
            root = read_xml(file)
        except InputError as error:
            faults.add("XML files that cannot be read", str(error))
            continue
        name = (root.findtext("filename") or "").strip()
        image = find.of_stem(file.stem) or find(name)
        if root.tag != "annotation":
            faults.add("XML files that are not VOC's", str(file))
        elif image is None:
            faults.add(f"images that are not in {part.images}", find.hint(name) or file.stem)
        else:
            rows = [_row(element) for element in root.findall("object")]
            size = (root.findtext("size/width"), root.findtext("size/height"))
            yield FoundImage(image, find.key(image), size, rows)


def _row(element: Element) -> dict[str, Any]:
    """An object as COCO's JSON has it. VOC's first pixel is 1, and the last is in the box."""
    row: dict[str, Any] = {"category": (element.findtext("name") or "").strip(), "bbox": None}
    try:
        x0, y0, x1, y1 = (float(element.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
        row["bbox"] = [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]
    except ValueError:
        pass
    if (polygon := element.find("polygon")) is not None:
        row["segmentation"] = _polygon(polygon)
    row["iscrowd"] = int((element.findtext("difficult") or "").strip() == "1")
    return row


def _polygon(element: Element) -> list[list[float]]:
    """Roboflow's: x1, y1, x2, y2, ... as elements of their own."""
    points = {each.tag: each.text or "" for each in element}
    values: list[float] = []
    for number in range(1, len(points) // 2 + 1):
        try:
            values += [float(points[f"{axis}{number}"]) - 1 for axis in "xy"]
        except (KeyError, ValueError):
            return []
    return [values] if values else []
