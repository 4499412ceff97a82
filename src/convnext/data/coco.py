"""Images with the boxes and outlines of objects, as COCO's JSON has them.

Faults in it are found when it is read, each kind with its count and its first examples. What cannot be used is left
out: an annotation without a usable box or outline, an image whose file is missing or of another size than the JSON says
(the outlines would lie elsewhere). What makes the file meaningless is refused: no JSON, not COCO's, an id twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.data.entries import HELD_OUT, hash_fraction
from convnext.data.faults import Faults
from convnext.errors import InputError

LARGEST = 1e6  # of a number that is a position; the length of an outline is memory when it is drawn


@dataclass(frozen=True)
class Annotation:
    """One object, or a crowd of them.

    `label` is a position among the classes, `box` x0, y0, x1, y1 in pixels, inside the image; `outline` polygons or a
    run-length code as in the JSON, None where there is none.
    """

    id: int
    label: int
    box: tuple[float, float, float, float]
    outline: Any
    crowd: bool
    area: float


@dataclass(frozen=True)
class AnnotatedImage:
    """One image; `file` is where it lies."""

    id: int
    file: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class Annotated:
    """Annotated images of one split; `category_ids` are the JSON's, by class."""

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[AnnotatedImage, ...]

    def __len__(self) -> int:
        return len(self.images)


def read_coco(path: Path, folder: Path, faults: Faults) -> Annotated:
    """The images of one JSON, in the order of their ids, whose files lie in `folder`.

    `InputError` for a file that is not COCO's JSON, an id that appears twice, or no usable image.
    """
    content = _read_json(path)
    categories = sorted(_rows(path, content, "categories"), key=lambda row: row["id"])
    names = [str(row.get("name", row["id"])) for row in categories]
    _refuse_twice(path, "category id", [row["id"] for row in categories])
    _refuse_twice(path, "category name", names)
    labels = {row["id"]: label for label, row in enumerate(categories)}
    rows = _rows(path, content, "images")
    _refuse_twice(path, "image id", [row["id"] for row in rows])
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*")} if folder.is_dir() else set()
    by_id: dict[int, dict[str, Any]] = {}
    annotations: dict[int, list[Annotation]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        name = str(row.get("file_name", ""))
        width, height = row.get("width"), row.get("height")
        if not (_is_count(width) and _is_count(height)):
            faults.add("images without width and height", f"image {row['id']}")
        elif Path(name).as_posix() not in there:
            faults.add(f"images that are not in {folder}", name or f"image {row['id']}")
        else:
            by_id[row["id"]] = row
            annotations[row["id"]] = []
    known, seen = {row["id"] for row in rows}, set()
    for row in _rows(path, content, "annotations"):
        name = f"annotation {row['id']}"
        if row["id"] in seen:
            faults.add("annotation ids that appear again", name)
            continue
        seen.add(row["id"])
        if not isinstance(row.get("image_id"), int) or row["image_id"] not in known:
            faults.add("annotations of images that are not listed", f"{name}: image {row.get('image_id')}")
        elif not isinstance(row.get("category_id"), int) or row["category_id"] not in labels:
            faults.add("annotations of categories that are not listed", f"{name}: category {row.get('category_id')}")
        elif row["image_id"] in by_id:
            image = by_id[row["image_id"]]
            read = _annotation(row, labels[row["category_id"]], image["width"], image["height"])
            if isinstance(read, str):
                faults.add(read, name)
            else:
                annotations[row["image_id"]].append(read)
    if not by_id:
        raise InputError(f"{path}: none of its {len(rows)} images can be used; {'; '.join(faults.lines())}")
    images = tuple(
        AnnotatedImage(number, folder / str(row["file_name"]), row["width"], row["height"], tuple(annotations[number]))
        for number, row in by_id.items()
    )
    return Annotated(tuple(names), tuple(row["id"] for row in categories), images)


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
        if not isinstance(row, dict) or not isinstance(row.get("id"), int):
            raise InputError(f"{path}: not COCO's form: entry {number} of '{name}' has no integer id")
    return rows


def _refuse_twice(path: Path, what: str, values: Sequence[Any]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise InputError(f"{path}: {what} {value} appears twice")
        seen.add(value)


def _annotation(row: dict[str, Any], label: int, width: int, height: int) -> Annotation | str:
    """The annotation, or what is wrong with it."""
    box = row.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return "boxes that are not four numbers"
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return "boxes of no area"
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
    if x1 <= x0 or y1 <= y0:
        return "boxes outside their image"
    outline = row.get("segmentation") or None
    if outline is not None and not is_outline(outline, width, height):
        return "malformed outlines"
    area = row.get("area")
    if not isinstance(area, int | float) or not 0 <= area < LARGEST**2:
        area = w * h
    return Annotation(row["id"], label, (x0, y0, x1, y1), outline, row.get("iscrowd") in (1, True), float(area))


def is_outline(outline: Any, width: int, height: int) -> bool:
    """Whether it is polygons, or a run-length code of an image of that size."""
    if isinstance(outline, list):
        return all(
            isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 and all(map(_is_number, polygon))
            for polygon in outline
        )
    if not isinstance(outline, dict) or repr(outline.get("size")) != repr([height, width]):  # 480.0 is no size
        return False
    counts = outline.get("counts")
    if isinstance(counts, str):
        counts = _runs(counts)
    return (
        isinstance(counts, list)
        and all(isinstance(run, int) and run >= 0 for run in counts)
        and sum(counts) == width * height
    )


def _runs(code: str) -> list[int] | None:
    """The run lengths of COCO's compressed code: six bits a character, later runs as differences; None if malformed."""
    runs: list[int] = []
    value = shift = 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if not shift else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST  # nor nan


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class Splits:
    """Training and validation images, and what was found wrong in reading them."""

    train: Annotated
    val: Annotated
    faults: Faults


def read_annotated(data: str | Path, *, val_fraction: float = 0.2) -> Splits:
    """The two parts of a folder in one of three layouts.

    `train.json` beside `train/`, and `val.json` beside `val/`; COCO's `annotations/instances_train2017.json` beside
    `train2017/`, and so on; Roboflow's `train/_annotations.coco.json` among its images. What is held out may be called
    val, valid, validation or test. Where nothing is, a fraction of the images is, by the hash of their names.

    `InputError` for a folder in none of them, or whose parts have other categories.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"{data}: no such folder")
    train_files = _find(folder, "train")
    if train_files is None:
        raise InputError(
            f"{data}: no annotations found: neither train.json, nor annotations/instances_train*.json, "
            "nor train/_annotations.coco.json"
        )
    faults = Faults()
    train = read_coco(*train_files, faults)
    held_out = next((found for name in HELD_OUT if (found := _find(folder, name))), None)
    if held_out is not None:
        val = read_coco(*held_out, faults)
        if (val.classes, val.category_ids) != (train.classes, train.category_ids):
            raise InputError(f"{held_out[0]}: other categories than {train_files[0]} has")
    else:
        train, val = _hold_out(train, val_fraction, data)
    if not any(image.annotations for image in train.images):
        raise InputError(f"{train_files[0]}: no usable annotation; {'; '.join(faults.lines()) or 'it has none'}")
    return Splits(train, val, faults)


def _find(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The JSON of a split and the folder of its images."""
    if (folder / f"{split}.json").is_file():
        return folder / f"{split}.json", folder / split
    if (folder / split / "_annotations.coco.json").is_file():
        return folder / split / "_annotations.coco.json", folder / split
    found = sorted((folder / "annotations").glob(f"instances_{split}*.json"))
    return (found[-1], folder / found[-1].stem.removeprefix("instances_")) if found else None


def _hold_out(images: Annotated, fraction: float, data: str | Path) -> tuple[Annotated, Annotated]:
    if len(images) < 2:
        raise InputError(f"{data}: one image alone cannot be divided into training and validation")
    shares = {image.id: hash_fraction(image.file.name) for image in images.images}
    ordered = sorted(images.images, key=lambda image: shares[image.id])
    count = min(max(1, sum(share < fraction for share in shares.values())), len(ordered) - 1)
    held = {image.id for image in ordered[:count]}
    parts = ([i for i in images.images if (i.id in held) == wanted] for wanted in (False, True))
    train, val = (Annotated(images.classes, images.category_ids, tuple(part)) for part in parts)
    return train, val
