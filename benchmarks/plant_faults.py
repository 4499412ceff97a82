"""Faults planted into labelled data, to see whether they are found: `wrong_labels.py` uses it.

Images are not copied: the data that are written name or link those that are there.
"""

from __future__ import annotations

import copy
import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from convnext.data.rle import from_mask, to_masks

Box = tuple[float, float, float, float]


class Planted(NamedTuple):
    """A fault: its kind, its image's key, and the boxes where it can be seen."""

    kind: str
    key: str
    boxes: Sequence[Box]


def flip_labels(labels: Sequence[str], count: int, seed: int) -> tuple[list[str], set[int]]:
    """Labels of which so many are another one, at random, and the places of those."""
    draws, classes = np.random.default_rng(seed), sorted(set(labels))
    flipped = set(draws.choice(len(labels), count, replace=False).tolist())
    changed = [
        str(draws.choice([name for name in classes if name != label])) if place in flipped else label
        for place, label in enumerate(labels)
    ]
    return changed, flipped


def write_table(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """A table of paths, labels and parts."""
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])


def plant_objects(source: Path, target: Path, count: int, seed: int) -> list[Planted]:
    """COCO data of which so many training objects are wrong: boxes moved by one to two of their sides, objects deleted,
    outlines of a neighbour, and where there are several classes another class; in turn."""
    draws = np.random.default_rng(seed)
    target.mkdir(parents=True, exist_ok=True)
    for part in source.iterdir():
        if part.is_dir() and not (target / part.name).exists():
            (target / part.name).symlink_to(part)
        elif part.suffix == ".json":
            shutil.copy(part, target)
    content = json.loads((source / "train.json").read_text())
    images = {image["id"]: image for image in content["images"]}
    rows: list[dict[str, Any]] = content["annotations"]
    of_image: dict[int, list[dict]] = {}
    for row in rows:
        of_image.setdefault(row["image_id"], []).append(row)
    categories = [c["id"] for c in content["categories"]]
    kinds = ["moved", "deleted", "neighbour"] + ["class"] * (len(categories) > 1)
    free = [row for row in rows if not row.get("iscrowd") and len(of_image[row["image_id"]]) > 1]
    planted = []
    for number, place in enumerate(draws.choice(len(free), count, replace=False).tolist()):
        kind, row = kinds[number % len(kinds)], free[place]
        before, image = copy.deepcopy(row), images[row["image_id"]]
        if kind == "deleted":
            rows.remove(row)
        elif kind == "class":
            row["category_id"] = int(draws.choice([c for c in categories if c != row["category_id"]]))
        elif kind == "neighbour":
            near = min(
                (o for o in of_image[row["image_id"]] if o is not row), key=lambda o: gap(o["bbox"], row["bbox"])
            )
            row["segmentation"] = copy.deepcopy(near["segmentation"])
        else:
            move(row, image["width"], image["height"], draws)
        boxes = [corners(before["bbox"]), corners(row["bbox"])]
        planted.append(Planted(kind, image["file_name"], boxes))
    (target / "train.json").write_text(json.dumps(content))
    return planted


def gap(a: Sequence[float], b: Sequence[float]) -> float:
    """Distance of the middles of two boxes x, y, width, height."""
    return float(np.hypot(*((a[i] + a[i + 2] / 2) - (b[i] + b[i + 2] / 2) for i in (0, 1))))


def corners(box: Sequence[float]) -> Box:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def move(row: dict[str, Any], width: int, height: int, draws: np.random.Generator) -> None:
    """Move an object, box and outline, by one to two of its sides, to where all of it lies in the image."""
    x, y, w, h = row["bbox"]
    for _ in range(100):
        angle, far = draws.uniform(0, 2 * np.pi), draws.uniform(1, 2)
        dx, dy = round(far * w * np.cos(angle)), round(far * h * np.sin(angle))
        if 0 <= x + dx <= width - w and 0 <= y + dy <= height - h:
            break
    else:
        dx, dy = round(-x), round(-y)  # into the corner: it is too large to be moved by its own side
    row["bbox"] = [x + dx, y + dy, w, h]
    mask = to_masks([row["segmentation"]], width, height)[0].numpy()
    row["segmentation"] = from_mask(np.roll(mask, (dy, dx), axis=(0, 1)))


def plant_regions(source: Path, target: Path, count: int, seed: int, *, ignored: int, least: float) -> list[Planted]:
    """Label maps of which so many regions of training images, of a share `least` of the image or more, are wrong: of
    another class, filled with what lies around them, or drawn elsewhere; in turn."""
    draws = np.random.default_rng(seed)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "classes.txt", target)
    classes = len((source / "classes.txt").read_text().split())
    if not (target / "images").exists():
        (target / "images").symlink_to(source / "images")
    shutil.copytree(source / "annotations", target / "annotations", dirs_exist_ok=True)
    for file in (target / "annotations").rglob("*.png"):
        file.chmod(0o644)
    maps = sorted((target / "annotations" / "train").glob("*.png"))
    planted: list[Planted] = []
    for path in (maps[i] for i in draws.permutation(len(maps)).tolist()):
        if len(planted) == count:
            break
        image = Image.open(path)
        labels = np.array(image)
        regions = [r for r in whole_regions(labels, classes, ignored) if least <= r.mean() <= 0.1]
        if not regions:
            continue
        region = regions[int(draws.integers(len(regions)))]
        kind = ("class", "deleted", "moved")[len(planted) % 3]
        own = int(labels[region][0])
        around = ndimage.binary_dilation(region, iterations=3) & ~region & (labels != ignored)
        if not around.any():
            continue
        filling = int(np.bincount(labels[around]).argmax())
        boxes = [around_pixels(region)]
        if kind == "class":
            labels[region] = int(draws.choice([c for c in range(classes) if c not in (own, filling)]))
        else:
            labels[region] = filling
        if kind == "moved":
            across = boxes[0][2] - boxes[0][0]
            moved = np.roll(region, int(across), axis=1)
            labels[moved & ~region] = own
            boxes.append(around_pixels(moved))
        written = Image.fromarray(labels, mode=image.mode)
        if image.mode == "P":
            written.putpalette(image.getpalette())
        written.save(path)
        planted.append(Planted(kind, f"train/{path.stem}", boxes))
    return planted


def whole_regions(labels: np.ndarray, classes: int, ignored: int) -> list[np.ndarray]:
    """Connected regions of each class, bool `[H, W]`."""
    found = []
    for label in range(classes):
        numbered, count = ndimage.label(labels == label) if label != ignored else (labels, 0)
        found += [numbered == number for number in range(1, count + 1)]
    return found


def around_pixels(pixels: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
