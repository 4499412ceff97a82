"""Answers in the forms that annotation programs import: labels to correct instead of to draw.

Images are called by their path below the folder that holds all of them, and stay where they are.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from convnext.data.rle import to_masks
from convnext.errors import InputError, nearest
from convnext.printing import to_json
from convnext.storage.files import make_folder, whole_file


class PredictedImage(NamedTuple):
    """One image: where it lies, its size, and its objects as COCO's JSON has them: "category" (a name), "bbox" and
    perhaps "score", "area", and "segmentation", a run-length code."""

    path: str
    width: int
    height: int
    rows: list[dict[str, Any]]


def check_image_names(form: str, paths: Sequence[str]) -> None:
    """`InputError` for two images that differ in their suffix alone, where a form has a file an image, named as it."""
    if form not in ("yolo", "voc", "labelme", "maps"):
        return
    seen: dict[PurePosixPath, str] = {}
    for name, path in zip(names_below(paths), paths, strict=True):
        other = seen.setdefault(PurePosixPath(name).with_suffix(""), path)
        if other != path:
            raise InputError(f"--format {form} has one file for both {other} and {path}: give one of them another name")


def write_objects(form: str, folder: Path, classes: Sequence[str], images: Sequence[PredictedImage]) -> None:
    """Write the objects of all images into a folder, in a form of `OBJECT_FORMS`. `InputError` for another form."""
    if form not in OBJECT_FORMS:
        raise InputError(f"--format {form} is none of a detector's; {nearest(form, list(OBJECT_FORMS))}")
    make_folder(folder)
    OBJECT_FORMS[form](folder, list(classes), list(zip(names_below([i.path for i in images]), images, strict=True)))


def write_classes(form: str, folder: Path, rows: Sequence[tuple[str, str, float]]) -> None:
    """Write path, label and score of images into `labels.csv` or `labels.parquet` in a folder, as `train` reads them.

    `InputError` for another form than these.
    """
    if form not in ("csv", "parquet"):
        raise InputError(f"--format {form} is none of a classifier's: csv or parquet")
    make_folder(folder)
    table = [{"path": _from(folder, path), "label": label, "score": round(score, 6)} for path, label, score in rows]
    _write_table(folder / f"labels.{form}", table, ("path", "label", "score"))


def mask_polygons(mask: np.ndarray) -> list[list[float]]:
    """The outer outlines of a mask `[H, W]`, x, y, x, y, ... each, along the edges of its pixels, the largest first."""
    from contourpy import contour_generator

    padded = np.pad(mask.astype(np.float32), 1)
    lines: list[Any] = list(contour_generator(z=padded).lines(0.5))
    found: list[tuple[float, np.ndarray]] = []
    for line in lines:
        points = line[:-1] - 0.5  # a pixel's centre lies at its number, and the pad moves all by one
        x, y = points[:, 0], points[:, 1]
        area = 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
        before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
        turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
        found.append((area, points[turns]))
    outer = max((area for area, _ in found), key=abs, default=0.0)
    kept = sorted((each for each in found if each[0] * outer > 0 and len(each[1]) > 2), key=lambda each: -abs(each[0]))
    return [[round(value, 2) for value in points.ravel().tolist()] for _, points in kept]


def names_below(paths: Sequence[str]) -> list[str]:
    """Each path below the folder that holds all of them."""
    whole = [os.path.abspath(path) for path in paths]
    above = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ""
    return [Path(os.path.relpath(path, above)).as_posix() for path in whole]


def _from(folder: Path, path: str) -> str:
    return Path(os.path.relpath(path, folder)).as_posix() if os.path.exists(path) else path


Named = list[tuple[str, PredictedImage]]


def _coco(folder: Path, classes: list[str], images: Named) -> None:
    number = {name: n for n, name in enumerate(classes, start=1)}
    rows = [(at, row) for at, (_, image) in enumerate(images, start=1) for row in image.rows]
    content = {
        "images": [
            {"id": at, "file_name": name, "width": image.width, "height": image.height}
            for at, (name, image) in enumerate(images, start=1)
        ],
        "categories": [{"id": n, "name": name} for name, n in number.items()],
        "annotations": [
            {
                "id": n,
                "image_id": at,
                "category_id": number[row["category"]],
                "iscrowd": 0,
                "area": row["bbox"][2] * row["bbox"][3],
                "segmentation": [],
                **{key: row[key] for key in ("bbox", "score", "area", "segmentation") if key in row},
            }
            for n, (at, row) in enumerate(rows, start=1)
        ],
    }
    with whole_file(folder / "annotations.json") as path:
        path.write_text(to_json(content))


def _yolo(folder: Path, classes: list[str], images: Named) -> None:
    for name, image in images:
        lines = []
        for row in image.rows:
            x, y, w, h = row["bbox"]
            values = next(iter(_polygons(row, image)), [x + w / 2, y + h / 2, w, h])
            shares = (value / (image.height if at % 2 else image.width) for at, value in enumerate(values))
            lines.append(" ".join([str(classes.index(row["category"])), *(f"{share:.6f}" for share in shares)]))
        _write(folder / "labels" / PurePosixPath(name).with_suffix(".txt"), "".join(f"{line}\n" for line in lines))
    names = "".join(f"  {n}: {to_json(name)}\n" for n, name in enumerate(classes))
    _write(folder / "data.yaml", f"path: .\ntrain: images\nnames:\n{names}")


def _voc(folder: Path, classes: list[str], images: Named) -> None:
    for name, image in images:
        top = Element("annotation")
        SubElement(top, "filename").text = PurePosixPath(name).name
        size = SubElement(top, "size")
        for tag, value in (("width", image.width), ("height", image.height), ("depth", 3)):
            SubElement(size, tag).text = str(value)
        for row in image.rows:
            each = SubElement(top, "object")
            SubElement(each, "name").text = row["category"]
            SubElement(each, "difficult").text = "0"
            box = SubElement(each, "bndbox")
            x, y, w, h = row["bbox"]
            for tag, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + w), ("ymax", y + h)):
                SubElement(box, tag).text = str(round(value))
        indent(top)
        place = folder / "Annotations" / PurePosixPath(name).with_suffix(".xml")
        make_folder(place.parent)
        with whole_file(place) as path:
            ElementTree(top).write(path, encoding="utf-8")


def _labelme(folder: Path, classes: list[str], images: Named) -> None:
    for name, image in images:
        shapes = []
        for number, row in enumerate(image.rows):
            x, y, w, h = row["bbox"]
            polygons = _polygons(row, image)
            for points in polygons or [[x, y, x + w, y + h]]:
                shapes.append(
                    {
                        "label": row["category"],
                        "points": [points[at : at + 2] for at in range(0, len(points), 2)],
                        "group_id": number if len(polygons) > 1 else None,
                        "shape_type": "polygon" if polygons else "rectangle",
                        "flags": {},
                    }
                )
        sizes = {"imageHeight": image.height, "imageWidth": image.width}
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": PurePosixPath(name).name}
        text = to_json({**content, "imageData": None, **sizes})
        _write(folder / PurePosixPath(name).with_suffix(".json"), text)


def _table(form: str) -> Callable[[Path, list[str], Named], None]:
    def write(folder: Path, classes: list[str], images: Named) -> None:
        rows = []
        for _, image in images:
            for row in image.rows:
                x, y, w, h = row["bbox"]
                corners = {"x0": x, "y0": y, "x1": x + w, "y1": y + h}
                own = {"path": _from(folder, image.path), "class": row["category"], "score": row["score"]}
                rows.append({**own, **{side: round(value, 2) for side, value in corners.items()}})
        _write_table(folder / f"objects.{form}", rows, ("path", "class", "score", "x0", "y0", "x1", "y1"))

    return write


OBJECT_FORMS: dict[str, Callable[[Path, list[str], Named], None]] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "labelme": _labelme,
    "csv": _table("csv"),
    "parquet": _table("parquet"),
}
"""Writers of what detectors find."""


def _polygons(row: dict[str, Any], image: PredictedImage) -> list[list[float]]:
    if "segmentation" not in row:
        return []
    return mask_polygons(to_masks([row["segmentation"]], image.width, image.height)[0].numpy())


def _write(place: Path, text: str) -> None:
    make_folder(place.parent)
    with whole_file(place) as path:
        path.write_text(text, encoding="utf-8")


def _write_table(place: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    with whole_file(place) as path:
        if place.suffix == ".parquet":
            import pyarrow
            from pyarrow import parquet

            kinds = {"path": pyarrow.string(), "label": pyarrow.string(), "class": pyarrow.string()}
            schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in columns])
            parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema), path)
            return
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
