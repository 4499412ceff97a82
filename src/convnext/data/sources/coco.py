"""Images with the boxes and outlines of objects, as COCO's JSON has them, and the many programs that write it.

What can be taken is taken: an object with a broken outline keeps its box, one without a box gets its outline's. What
was assumed is noted, and what cannot be used is left out, each kind with its count and its first examples: an object
with neither box nor outline, an image whose file is missing or of another size than the JSON says (the outlines would
lie elsewhere). What makes the file meaningless is refused: no JSON, not COCO's, two images of one id.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from convnext.data.images.decode import MAX_PIXELS
from convnext.data.problems import Problems
from convnext.data.sources.coco_fields import (
    LARGEST_NUMBER,
    Id,
    box_of_outline,
    clip_box,
    order_of,
    reaches_beyond,
    read_box,
    read_id,
    read_outline,
    read_side,
    twice,
)
from convnext.data.splits import UNDIVIDED, held_out_part, part_of_name
from convnext.errors import InputError


@dataclass(frozen=True)
class Annotation:
    """One object, or a crowd of them.

    `label` is a position among the classes, `box` x0, y0, x1, y1 in pixels, inside the image; `outline` polygons or a
    run-length code as in the JSON, None where there is none; `area` in pixels.
    """

    label: int
    box: tuple[float, float, float, float]
    outline: Any
    crowd: bool
    area: float


@dataclass(frozen=True)
class AnnotatedImage:
    """One image; `file` is where it lies, `key` its name relative to the data.

    `left_out` is how many annotations of it could not be used: an image of no annotations has no objects only if it
    is 0.
    """

    id: Id
    file: Path
    key: str
    width: int
    height: int
    annotations: tuple[Annotation, ...]
    left_out: int = 0


@dataclass(frozen=True)
class DetectionSet:
    """Annotated images of one part; `category_ids` are the JSON's, by class."""

    classes: tuple[str, ...]
    category_ids: tuple[Id, ...]
    images: tuple[AnnotatedImage, ...]

    @property
    def sources(self) -> list[str]:
        """Files of the images."""
        return [str(image.file) for image in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, count: int) -> DetectionSet:
        """At most `count` of them, evenly spaced."""
        return self.take(range(0, len(self), -(-len(self) // count)))

    def take(self, places: Sequence[int]) -> DetectionSet:
        """The set of the images at some places, in that order; an image may come several times."""
        return replace(self, images=tuple(self.images[place] for place in places))


@dataclass(frozen=True)
class DetectionParts:
    """The parts of a folder by name ("train", "val", "test", or "" alone where it does not say what is held out), and
    what was found wrong in reading them."""

    parts: dict[str, DetectionSet]
    faults: Problems


def find_coco_parts(data: str | Path) -> dict[str, tuple[Path, Path]]:
    """The JSON and the folder of images of each part of a folder; "" stands for train alone.

    Parts are `train.json` beside `train/`, COCO's `annotations/instances_train2017.json` beside `train2017/`, or
    Roboflow's `train/_annotations.coco.json` among its images, under any of the parts' names (`splits.PART_NAMES`). A
    folder that itself holds `_annotations.coco.json` is one part. `InputError` for a folder in another layout.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"{data}: no such folder")
    candidates = [(path.stem, path, folder / path.stem) for path in sorted(folder.glob("*.json"))]
    candidates += [(path.parent.name, path, path.parent) for path in sorted(folder.glob("*/_annotations.coco.json"))]
    for path in sorted((folder / "annotations").glob("instances_*.json"), reverse=True):  # the last year's first
        name = path.stem.removeprefix("instances_")
        candidates.append((name.rstrip("0123456789"), path, folder / name))
    found: dict[str, tuple[Path, Path]] = {}
    for name, path, images in candidates:
        if (part := part_of_name(name)) is not None:
            found.setdefault(part, (path, images))
    if not found and (folder / "_annotations.coco.json").is_file():
        return {UNDIVIDED: (folder / "_annotations.coco.json", folder)}
    if not found:
        raise InputError(
            f"{data}: no annotations found: neither train.json, nor annotations/instances_train*.json, "
            "nor train/_annotations.coco.json, nor such files of val or test"
        )
    if "train" in found and held_out_part(found) is None:
        return {UNDIVIDED: found["train"]}
    return {part: found[part] for part in ("train", "val", "test") if part in found}


def read_annotated(
    data: str | Path, *, only: Collection[str] | None = None, classes: Sequence[str] | None = None
) -> DetectionParts:
    """The parts of a folder (`find_coco_parts`), or `only` some of them.

    Categories are matched by name, to `classes` or else to those of the first part read, which is train. `InputError`
    for a part that cannot be read, has an object of another class, or in which no object can be used.
    """
    faults = Problems()
    parts: dict[str, DetectionSet] = {}
    for part, (path, images) in find_coco_parts(data).items():
        if only is not None and part not in only:
            continue
        known = classes if classes is not None else next((other.classes for other in parts.values()), None)
        parts[part] = read_coco(path, images, faults, classes=known)
        if known is None and not any(image.annotations for image in parts[part].images):
            raise InputError(f"{path}: no usable annotation; {'; '.join(faults.lines()) or 'it has none'}")
    return DetectionParts(parts, faults)


def read_coco(path: Path, folder: Path, faults: Problems, *, classes: Sequence[str] | None = None) -> DetectionSet:
    """The images of one JSON, in the order of their ids, whose files lie in `folder`.

    Its categories are the classes, in the order of their ids; with `classes`, theirs are found by name. `InputError`
    for a file that is not COCO's JSON, an id that appears twice, no usable image, or objects of another class.
    """
    content = _read_json(path)
    rows = {_image_id(path, row): row for row in _rows(path, content, "images")}
    objects = _rows(path, content, "annotations")
    used = {read_id(row.get("category_id")) for row in objects}
    categories = _categories(path, content, used, faults)
    labels, names, ids = _labels(path, categories, used, classes)
    find = _Finder(folder)
    there: dict[Id, tuple[Path, str, int, int]] = {}
    for id in sorted(rows, key=order_of):
        row, name = rows[id], str(rows[id].get("file_name", ""))
        width, height = read_side(row.get("width")), read_side(row.get("height"))
        if width is None or height is None:
            faults.add("images without width and height", f"image {id}")
        elif width * height > MAX_PIXELS:  # not only unreadable: outlines are drawn at this size, whatever the file's
            faults.add("images of more pixels than are read", f"image {id}: {width}×{height}")
        elif (file := find(name)) is None:
            faults.add(f"images that are not in {folder}", find.hint(name) or f"image {id}")
        else:
            there[id] = (file, find.key(name), width, height)
    if not there:
        raise InputError(f"{path}: none of its {len(rows)} images can be used; {'; '.join(faults.lines())}")
    _note_repeated_ids(objects, faults)
    annotations: dict[Id, list[Annotation]] = {id: [] for id in there}
    left_out: Counter[Id] = Counter()
    for number, row in enumerate(objects, start=1):
        name = f"annotation {row.get('id', number)}"
        image, category = read_id(row.get("image_id")), read_id(row.get("category_id"))
        if image is None or image not in rows:
            faults.add("annotations of images that are not listed", f"{name}: image {row.get('image_id')}")
        elif category is None or category not in labels:
            faults.add("annotations of categories that are not listed", f"{name}: category {row.get('category_id')}")
            left_out[image] += 1
        elif image in there:
            read = _annotation(row, name, labels[category], *there[image][2:], faults)
            if isinstance(read, str):
                faults.add(read, name)
                left_out[image] += 1
            else:
                annotations[image].append(read)
    images = tuple(
        AnnotatedImage(id, file, key, width, height, tuple(annotations[id]), left_out[id])
        for id, (file, key, width, height) in there.items()
    )
    return DetectionSet(names, ids, images)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None


def _rows(path: Path, content: Any, name: str) -> list[dict[str, Any]]:
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise InputError(f"{path}: not COCO's form: it has no list '{name}'")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{path}: not COCO's form: entry {number} of '{name}' is no object")
        if name != "annotations" and read_id(row.get("id")) is None:
            raise InputError(f"{path}: not COCO's form: entry {number} of '{name}' has no id")
    if name != "annotations" and (id := twice([read_id(row["id"]) for row in rows])) is not None:
        raise InputError(f"{path}: {'image' if name == 'images' else 'category'} id {id} appears twice")
    return rows


def _image_id(path: Path, row: dict[str, Any]) -> Id:
    id = read_id(row["id"])
    assert id is not None  # `_rows` has looked
    return id


def _categories(path: Path, content: Any, used: Collection[Id | None], faults: Problems) -> dict[Id, str]:
    """The names of the categories by id, in the ids' order, without Roboflow's root: a category of categories."""
    rows = _rows(path, content, "categories")
    above = {str(row.get("supercategory")) for row in rows}
    named = {_image_id(path, row): str(row.get("name", row["id"])) for row in rows}
    for id, name in list(named.items()):
        if id not in used and name in above and len(named) > 1:
            faults.note("categories that only stand above others, which are no classes", name)
            del named[id]
    if (name := twice(list(named.values()))) is not None:
        raise InputError(f"{path}: category name {name} appears twice")
    return dict(sorted(named.items(), key=lambda pair: order_of(pair[0])))


def _labels(
    path: Path, categories: Mapping[Id, str], used: Collection[Id | None], classes: Sequence[str] | None
) -> tuple[dict[Id, int], tuple[str, ...], tuple[Id, ...]]:
    """The class of each category id, the names of the classes, and a category id for each class.

    Classes that the JSON lacks get ids that no category has.
    """
    if classes is None:
        return {id: label for label, id in enumerate(categories)}, tuple(categories.values()), tuple(categories)
    place = {name: label for label, name in enumerate(classes)}
    if other := [name for id, name in categories.items() if name not in place and id in used]:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        raise InputError(f"{path}: objects of classes that are not among the others': {', '.join(other[:5])}{more}")
    labels = {id: place[name] for id, name in categories.items() if name in place}
    id_of = {label: id for id, label in labels.items()}
    free = 1 + max((id for id in categories if isinstance(id, int)), default=0)
    return labels, tuple(classes), tuple(id_of.get(label, free + label) for label in range(len(classes)))


class _Finder:
    """Finds the image files that a JSON names: in the folder of images, the folder above it, or at an absolute path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listed = cache(lambda place: {p.name.lower(): p.name for p in place.iterdir()} if place.is_dir() else {})

    def key(self, name: str) -> str:
        """The path of an image relative to the data, by which it may be held out."""
        path = Path(_slashes(name))
        return path.name if path.is_absolute() else path.as_posix().removeprefix(f"{self.folder.name}/")

    def __call__(self, name: str) -> Path | None:
        name = _slashes(name)
        if not name:
            return None
        tried = (self.folder / name, self.folder.parent / name)  # an absolute name is itself
        return next((path for path in tried if path.is_file()), None)

    def hint(self, name: str) -> str:
        """A file name for an error message, with a file of the same name in other case if there is one."""
        path = self.folder / _slashes(name)
        other = self.listed(path.parent).get(path.name.lower())
        return f"{name}, where there is {other}" if name and other else name


def _slashes(name: str) -> str:
    return name.replace("\\", "/").replace("\0", "")


def _note_repeated_ids(objects: Sequence[dict[str, Any]], faults: Problems) -> None:
    seen = set()
    for row in objects:
        id = read_id(row.get("id"))
        if id is not None and id in seen:
            faults.note("ids of annotations that appear again, which are not needed", f"annotation {id}")
        seen.add(id)


def _annotation(
    row: dict[str, Any], name: str, label: int, width: int, height: int, faults: Problems
) -> Annotation | str:
    """The annotation, or why it cannot be used."""
    outline = read_outline(row.get("segmentation"), width, height)
    if outline.malformed:
        faults.note("malformed outlines, whose objects keep their boxes", name)
    if outline.scraps:
        faults.note("outlines with parts of fewer than three points, which are left out", name)
    box = read_box(row.get("bbox"))
    if box is not None and 0 < box[2] <= 1 and 0 < box[3] <= 1:
        faults.note("boxes under a pixel (are they parts of the image, 0 to 1?)", name)
    inside = clip_box(box, width, height) if box is not None else None
    if box is not None and inside is not None and reaches_beyond(box, width, height):
        faults.note("boxes that reach beyond their image (are they x0, y0, x1, y1?)", name)
    if inside is None and outline.usable is not None:
        around = box_of_outline(outline.usable, width, height)
        inside = clip_box(around, width, height) if around is not None else None
        if inside is not None:
            faults.note("boxes taken from their outlines", name)
    if inside is None:
        if box is None:
            return "boxes that are not four numbers"
        return "boxes of no area" if box[2] <= 0 or box[3] <= 0 else "boxes outside their image"
    area = row.get("area")
    if isinstance(area, bool) or not isinstance(area, int | float) or not 0 <= area < LARGEST_NUMBER**2:
        area = (inside[2] - inside[0]) * (inside[3] - inside[1]) if box is None else box[2] * box[3]
    return Annotation(label, inside, outline.usable, row.get("iscrowd") in (1, True), float(area))
