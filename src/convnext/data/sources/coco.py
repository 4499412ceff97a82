"""Images with the boxes and outlines of objects, as COCO's JSON has them, and the many programs that write it.

    FOLDER/train.json beside FOLDER/train/    FOLDER/annotations/instances_train2017.json beside FOLDER/train2017/
    FOLDER/train/_annotations.coco.json       FOLDER/any name.json beside images, or above them

What makes a file meaningless is refused: no JSON, not COCO's, two images of one id. An image whose file is missing or
of another size than the JSON says is left out (the outlines would lie elsewhere).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.images.decode import MAX_PIXELS
from convnext.data.problems import TOO_LARGE, Problems
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet, joined, read_annotation
from convnext.data.sources.coco_fields import Id, order_of, read_id, read_side, twice
from convnext.data.sources.documents import ends_of, read_json
from convnext.data.sources.finder import IMAGE_FOLDERS, ImageFinder, child, children, part_said, settled_parts
from convnext.data.splits import UNDIVIDED, part_of_name
from convnext.errors import InputError

_LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_OF_OTHER_KINDS = ("captions", "panoptic", "person_keypoints", "image_info", "stuff")
"""Beginnings of the names of COCO's own files that hold no objects, or not those of all classes."""


class CocoPart(NamedTuple):
    """One part of a data set: its JSON files, the folder of its images, and that below which they are searched."""

    files: tuple[Path, ...]
    images: Path
    root: Path
    part: str


def find_coco_parts(data: Path) -> dict[str, CocoPart]:
    """The parts of a folder, or of a JSON file, by name; "" stands for train alone, and none for no COCO.

    Parts are `train.json` beside `train/`, COCO's `annotations/instances_train2017.json` beside `train2017/`, or
    Roboflow's `train/_annotations.coco.json` among its images, under any of the parts' names (`splits.PART_NAMES`).
    Else every JSON of COCO's form in the folder, in `annotations/` or in `labels/` is one, of the part that its name
    says: files of no part's name are one part together.
    """
    if data.is_file():
        return {UNDIVIDED: part_of_file(data)} if data.suffix.lower() == ".json" else {}
    found: dict[str, CocoPart] = {}
    for name, path, images in _usual_places(data):
        if (part := part_of_name(name)) is not None:
            found.setdefault(part, CocoPart((path,), images, images, part))
    if not found and (data / "_annotations.coco.json").is_file():
        return {UNDIVIDED: CocoPart((data / "_annotations.coco.json",), data, data, UNDIVIDED)}
    return settled_parts(found or _any_names(data))


def _usual_places(folder: Path) -> list[tuple[str, Path, Path]]:
    """Name of the part, JSON, and folder of images."""
    places = [(path.stem, path, folder / path.stem) for path in sorted(folder.glob("*.json"))]
    for path in sorted((folder / "annotations").glob("instances_*.json"), reverse=True):  # the last year's first
        name = path.stem.removeprefix("instances_")
        places.append((name.rstrip("0123456789"), path, folder / name))
    places = [place for place in places if place[2].is_dir()]
    places += [(path.parent.name, path, path.parent) for path in sorted(folder.glob("*/_annotations.coco.json"))]
    return places


def _any_names(folder: Path) -> dict[str, CocoPart]:
    files = [path for path in json_files(folder) if is_coco(path) or part_of_name(path.stem) is not None]
    files = [path for path in files if not path.stem.startswith(_OF_OTHER_KINDS)] or files
    return parts_of_files(files, folder)


def json_files(folder: Path) -> list[Path]:
    """The JSON files in a folder, in `annotations/` and in `labels/`."""
    above = [folder, *(place for name in ("annotations", "labels") if (place := child(folder, (name,))) is not None)]
    return [path for place in above for path in children(place) if path.suffix.lower() == ".json"]


def part_of_file(file: Path) -> CocoPart:
    """A JSON file that is all of the data."""
    above = file.parent.parent if file.parent.name.lower() in ("annotations", "labels") else file.parent
    return _part((file,), above, UNDIVIDED)


def parts_of_files(files: Sequence[Path], root: Path) -> dict[str, CocoPart]:
    """JSON files by the part that their names say; those of no part's name are one part together."""
    named = {path: part_said(path.stem) for path in files}
    parts = sorted({part for part in named.values() if part is not None})
    grouped = {part: tuple(path for path in files if named[path] == part) for part in parts}
    grouped = grouped or {UNDIVIDED: tuple(files)}
    return {part: _part(own, root, part) for part, own in grouped.items() if own}


def _part(files: tuple[Path, ...], root: Path, part: str) -> CocoPart:
    """With the folder of images whose name is most likely, of those there are."""
    above = [root, *(place for place in children(root) if place.name.lower() in IMAGE_FOLDERS and place.is_dir())]
    stem = re.sub("^(instances|panoptic)_", "", files[0].stem).lower()
    own = [path for place in above for path in children(place) if path.is_dir()]
    likely = [path for path in own if path.name.lower() == stem]
    likely += [path for path in own if part and part_of_name(path.name.rstrip("0123456789")) == part]
    return CocoPart(files, next(iter([*likely, *above[1:], root])), root, part)


def is_coco(path: Path) -> bool:
    """Whether a JSON file looks like COCO's, by its ends."""
    return _LISTS.search(ends_of(path)) is not None


def read_coco_part(part: CocoPart, faults: Problems) -> DetectionSet:
    """The images of all JSON files of a part (`read_coco`). `InputError` for an image that is in two of them."""
    sets = [read_coco(path, part.images, faults, root=part.root, part=part.part) for path in part.files]
    return joined(sets, str(part.files[0].parent))


def read_coco(
    path: Path, folder: Path, faults: Problems, *, root: Path | None = None, part: str | None = None
) -> DetectionSet:
    """The images of one JSON, in the order of their ids, whose files lie in `folder`, or below `root`.

    Its categories are the classes, in the order of their ids. `InputError` for a file that is not COCO's JSON, an id
    that appears twice, or no usable image.
    """
    content = read_json(path)
    rows = {id_of_row(row): row for row in rows_in(path, content, "images")}
    objects = rows_in(path, content, "annotations")
    used = {read_id(row.get("category_id")) for row in objects}
    categories = categories_of(path, content, used, faults)
    labels = {id: label for label, id in enumerate(categories)}
    find = ImageFinder(folder, root, part or None)
    there: dict[Id, tuple[Path, str, int, int]] = {}
    for id in sorted(rows, key=order_of):
        row, name = rows[id], str(rows[id].get("file_name", ""))
        width, height = read_side(row.get("width")), read_side(row.get("height"))
        if width is None or height is None:
            faults.add("images without width and height", f"image {id}")
        elif width * height > MAX_PIXELS:  # not only unreadable: outlines are drawn at this size, whatever the file's
            faults.add(TOO_LARGE, f"image {id}: {width}×{height}")
        elif (file := find(name)) is None:
            faults.add(f"images that are not in {folder}", find.hint(name) or f"image {id}")
        else:
            there[id] = (file, find.key(file, name), width, height)
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
            read = read_annotation({"bbox": None, **row}, name, labels[category], *there[image][2:], faults)
            if isinstance(read, str):
                faults.add(read, name)
                left_out[image] += 1
            else:
                annotations[image].append(read)
    images = tuple(
        AnnotatedImage(id, file, key, width, height, tuple(annotations[id]), left_out[id])
        for id, (file, key, width, height) in there.items()
    )
    return DetectionSet(tuple(categories.values()), tuple(categories), images)


def rows_in(path: Path, content: Any, name: str) -> list[dict[str, Any]]:
    """The objects in a list of a COCO document. `InputError` where there is no such list, or entries without an id."""
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


def id_of_row(row: dict[str, Any]) -> Id:
    """The id of an image or a category."""
    id = read_id(row["id"])
    assert id is not None  # `rows_in` has looked
    return id


def categories_of(path: Path, content: Any, used: Collection[Id | None], faults: Problems) -> dict[Id, str]:
    """The names of the categories by id, in the ids' order, without Roboflow's root: a category of categories."""
    rows = rows_in(path, content, "categories")
    # COCO's "person" stands above itself alone.
    above = {str(row["supercategory"]) for row in rows if row.get("supercategory") not in (None, row.get("name"))}
    named = {id_of_row(row): str(row.get("name", row["id"])) for row in rows}
    for id, name in list(named.items()):
        if id not in used and name in above and len(named) > 1:
            faults.note("categories that only stand above others, which are no classes", name)
            del named[id]
    if (name := twice(list(named.values()))) is not None:
        raise InputError(f"{path}: category name {name} appears twice")
    return dict(sorted(named.items(), key=lambda pair: order_of(pair[0])))


def _note_repeated_ids(objects: Sequence[dict[str, Any]], faults: Problems) -> None:
    seen = set()
    for row in objects:
        id = read_id(row.get("id"))
        if id is not None and id in seen:
            faults.note("ids of annotations that appear again, which are not needed", f"annotation {id}")
        seen.add(id)
