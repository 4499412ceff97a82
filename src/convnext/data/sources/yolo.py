"""YOLO's text files: a line an object, with the number of its class and a box or a polygon in parts of the image.

    FOLDER/data.yaml   FOLDER/images/train/a.jpg   FOLDER/labels/train/a.txt   or train/images, or lists of files
    FOLDER/classes.txt, a name a line, where there is no data.yaml

The label file of an image lies beside it, or at the same place below `labels/` where the image lies below `images/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.images.decode import IMAGE_SUFFIXES, upright_size_of_file
from convnext.data.problems import NOT_READ, Problems
from convnext.data.sources.annotated import DetectionSet, FoundImage, annotated_set
from convnext.data.sources.coco_fields import twice
from convnext.data.sources.documents import read_text_file, read_yaml
from convnext.data.sources.finder import ImageFinder, child, children, part_folders, part_said, settled_parts
from convnext.data.sources.image_files import find_images
from convnext.data.sources.records import class_name, read_class_names
from convnext.data.splits import UNDIVIDED, part_of_name
from convnext.errors import ImageError, InputError

_NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
_WHOLE = 1.01
"""Largest coordinate of what is a part of the image, with room for rounding."""
_FEW = 50


class YoloPart(NamedTuple):
    """One part: folders or lists of its images, names of the classes, and whether boxes are followed by keypoints."""

    places: tuple[Path, ...]
    names: tuple[str, ...]
    keypoints: bool


def find_yolo_parts(data: Path) -> dict[str, YoloPart]:
    """The parts of a folder, or of a YAML file, by name; none for no YOLO."""
    if data.is_file():
        return _of_yaml(data, read_yaml(data)) if data.suffix.lower() in (".yaml", ".yml") else {}
    for path in children(data):
        if path.suffix.lower() in (".yaml", ".yml"):
            try:
                content = read_yaml(path)
            except InputError:
                if path.stem.lower() in ("data", "dataset"):
                    raise
                continue
            if isinstance(content, dict) and {"names", "nc"} & content.keys():
                return _of_yaml(path, content)
    return _of_folders(data)


def _of_yaml(path: Path, content: Any) -> dict[str, YoloPart]:
    if not isinstance(content, dict) or not {"names", "nc"} & content.keys():
        raise InputError(f"{path}: not YOLO's form: it has no 'names'")
    names = content.get("names", content.get("nc"))
    if isinstance(names, int) and 0 < names < 10**5:
        names = list(range(names))
    if isinstance(names, dict):
        if not all(isinstance(key, int) and 0 <= key < 10**5 for key in names):
            raise InputError(f"{path}: 'names' are not numbered from 0")
        names = [names.get(number, number) for number in range(max(names, default=-1) + 1)]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: 'names' is no list of classes")
    base = str(content.get("path") or "")
    bases = [each for above in (path.parent, path.parent.parent) if (each := above / base).is_dir()]
    found: dict[str, tuple[Path, ...]] = {}
    for key, value in content.items():
        part = part_of_name(key) if isinstance(key, str) else None
        values = value if isinstance(value, list) else [value]
        if part is not None and (said := [each for each in values if isinstance(each, str) and each]):
            places = [_place(each, [*bases, path.parent]) for each in said]
            if missing := [each for each, place in zip(said, places, strict=True) if place is None]:
                if part == "test":  # which many name and do not hand on
                    continue
                raise InputError(f"{path}: '{key}' names {missing[0]}, which is not there")
            found[part] = tuple(place for place in places if place is not None)
    names, keypoints = tuple(map(str, names)), "kpt_shape" in content
    if not found:  # supervision writes the names alone
        return _of_folders(path.parent, names)
    if found.get("val") == found.get("train"):
        found.pop("val", None)  # what is trained on would be measured
    return {part: YoloPart(places, names, keypoints) for part, places in settled_parts(found).items()}


def _place(name: str, bases: list[Path]) -> Path | None:
    """The folder or list that a YAML file names; `../train/images` is often `train/images`."""
    name = name.replace("\\", "/").replace("\0", "")
    tried = (base / each for each in (name, re.sub(r"^(\.\./)+", "", name)) for base in bases)
    return next((path for path in tried if path.exists()), None)


def _of_folders(folder: Path, names: tuple[str, ...] = ()) -> dict[str, YoloPart]:
    """Parts that no data.yaml names: there must be label files, and a list of the `names` unless they are known."""
    images, labels = child(folder, ("images",)), child(folder, ("labels",))
    listed = next((path for at in (folder, labels) if at and (path := child(at, _NAMES)) and path.is_file()), None)
    if listed is not None and not names:
        names = read_class_names(listed)
    if not names:
        return {}
    lists = {part: (path,) for path in children(folder) if path.suffix == ".txt" and (part := part_of_name(path.stem))}
    above = images if images is not None and part_folders(images) else folder
    inside = {part: (child(path, ("images",)) or path,) for part, path in part_folders(above).items()}
    found = settled_parts(inside or lists) or {UNDIVIDED: (images or child(folder, ("obj_train_data",)) or folder,)}
    parts = {part: YoloPart(places, names, False) for part, places in found.items()}
    few = [path for part in parts.values() for path in islice(_images(part, Problems()), _FEW)]
    return parts if any(path is not None and path.is_file() for path in map(_label_file, few)) else {}


def _images(part: YoloPart, faults: Problems) -> Iterator[Path]:
    for place in part.places:
        if place.is_dir():
            yield from find_images(place)
            continue
        find = ImageFinder(place.parent)
        for line in read_text_file(place).splitlines():
            name = line.strip()
            if name and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                file = find(name)
                if file is None:
                    faults.add(f"images that are not in {place.parent}", name)
                else:
                    yield file


def _label_file(image: Path) -> Path:
    """The label file of an image, whether it is there or not."""
    beside = image.with_suffix(".txt")
    for at in range(len(image.parts) - 2, -1, -1):
        if image.parts[at].lower() == "images":
            above = Path(*image.parts[:at])
            if (usual := above.joinpath("labels", *beside.parts[at + 1 :])).is_file():
                return usual
            labels = child(above, ("labels",))
            if labels is not None and (path := labels.joinpath(*beside.parts[at + 1 :])).is_file():
                return path
    labels = image.parent / "labels" / beside.name
    return labels if labels.is_file() else beside


def read_yolo(part: YoloPart, faults: Problems) -> DetectionSet:
    """The images of a part, sorted, each with the objects of its label file; without one it has no objects.

    `InputError` where no image has a label file, or two classes have one name.
    """
    if (name := twice([class_name(each) for each in part.names])) is not None:
        raise InputError(f"{part.places[0]}: class name {name} appears twice among the names")
    images = sorted(_images(part, faults))
    read = [each for each in _read_all(images, part, faults) if each is not None]
    if not any(_label_file(image).is_file() for image in images):
        raise InputError(f"{part.places[0]}: no label file of its {len(images)} images is there")
    return annotated_set(read, faults, part.names)


def _read_all(images: list[Path], part: YoloPart, faults: Problems) -> Iterator[FoundImage | None]:
    def size(image: Path) -> tuple[int, int] | str:
        try:
            return upright_size_of_file(image)
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor() as threads:
        for image, found in zip(images, threads.map(size, images), strict=True):
            if isinstance(found, str):
                faults.add(NOT_READ, found)
                yield None
                continue
            file = _label_file(image)
            if not file.is_file():
                faults.note("images without a label file, taken to show no object", str(image))
            lines = read_text_file(file).splitlines() if file.is_file() else []
            rows = [row for n, line in enumerate(lines, 1) if (row := _row(line, f"{file}:{n}", part, found, faults))]
            yield FoundImage(image, _key(image, part), found, rows)


def _key(image: Path, part: YoloPart) -> str:
    above = next((place for place in part.places if place.is_dir() and image.is_relative_to(place)), None)
    if above is None:  # a list's: below images/, if it is
        names = [name.lower() for name in image.parent.parts]
        at = len(names) - names[::-1].index("images") if "images" in names else len(names)
        return "/".join(image.parts[at + 1 :] if at < len(names) and part_said(names[at]) else image.parts[at:])
    return image.relative_to(above).as_posix()


def _row(line: str, name: str, part: YoloPart, size: tuple[int, int], faults: Problems) -> dict[str, Any] | None:
    """An object as COCO's JSON has it: `class x y w h`, also with a score or keypoints, or `class x y x y x y ...`."""
    words = line.split()
    if not words:
        return None
    try:
        number, *values = map(float, words)
    except ValueError:
        faults.add("lines that are not numbers", name)
        return None
    if len(values) < 4 or (len(values) > 5 and len(values) % 2 and not part.keypoints):
        faults.add(f"lines of {len(words)} numbers, where an object has a class and at least four", name)
        return None
    if not (number.is_integer() and 0 <= number < len(part.names)):
        faults.add(f"objects of classes that are not among the {len(part.names)} names", f"{name}: {words[0]}")
        return None
    boxed = len(values) < 6 or part.keypoints
    if not all(-_WHOLE < value < _WHOLE for value in (values[:4] if boxed else values)):
        faults.add("objects whose numbers are not parts of the image, 0 to 1", name)
        return None
    width, height = size
    category = part.names[int(number)]
    if boxed:
        x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        return {"category": category, "bbox": [x - w / 2, y - h / 2, w, h]}
    points = [value * (height if at % 2 else width) for at, value in enumerate(values)]
    return {"category": category, "segmentation": [points]}
