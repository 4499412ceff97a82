"""Writes one set of annotated images in the form of each annotation program, as those programs do."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement

import numpy as np
import pytest
from making import make_objects
from PIL import Image
from vacuous import nonempty

from convnext.data.sources.annotated import AnnotatedImage, DetectionSet
from convnext.data.sources.detection import read_annotated

Parts = dict[str, DetectionSet]
"""Sets by the name of their part: "train" and "val", or "" alone."""


def make_truth(root: Path, *, train: int = 6, val: int = 3) -> Parts:
    """Squares and circles, as the native form has them; the second image of a part shows nothing, and names are odd."""
    parts = dict(read_annotated(make_objects(root, train=train, val=val)).parts)
    names = {0: "a b.png", 1: "über.x.png", 2: "c,d.PNG"}
    for part, data in parts.items():
        images = []
        for number, image in enumerate(data.images):
            key = f"{part}-{names.get(number, image.key)}"
            file = image.file.rename(image.file.with_name(key))
            images.append(replace(image, file=file, key=key, annotations=image.annotations if number != 1 else ()))
        parts[part] = replace(data, images=tuple(images))
    return parts


def link(image: AnnotatedImage, folder: Path, name: str | None = None) -> Path:
    """The image's file, in another folder."""
    path = folder / (name or image.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(image.file, path)
    return path


def corner_size(box: Any) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def coco_content(data: DetectionSet, names: Callable[[str], str] = str) -> dict[str, Any]:
    rows = [(image, a) for image in data.images for a in image.annotations]
    return {
        "images": [{"id": i.id, "file_name": names(i.key), "width": i.width, "height": i.height} for i in data.images],
        "categories": [{"id": n, "name": name} for n, name in enumerate(data.classes)],
        "annotations": [
            {
                "id": n,
                "image_id": image.id,
                "category_id": a.label,
                "bbox": corner_size(a.box),
                "area": a.area,
                "iscrowd": int(a.crowd),
                "segmentation": a.outline if a.outline is not None else [],
                "keypoints": [],
                "attributes": {"occluded": False},
            }
            for n, (image, a) in enumerate(rows, start=1)
        ],
    }


def as_coco(root: Path, parts: Parts) -> None:
    """CVAT's: `annotations/instances_NAME.json`, and images below `images/NAME/`."""
    (root / "annotations").mkdir(parents=True)
    for part, data in parts.items():
        name = part or "default"
        for image in data.images:
            link(image, root / "images" / name)
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(coco_content(data)))


def as_yolo(root: Path, parts: Parts, *, polygons: bool = False, yaml: bool = True) -> None:
    """Ultralytics': `data.yaml`, `images/NAME/` and `labels/NAME/`."""
    classes = next(iter(parts.values())).classes
    for part, data in parts.items():
        for image in data.images:
            link(image, root / "images" / part)
            lines = []
            for a in image.annotations:
                box = a.box
                values = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]
                if polygons:
                    values = a.outline[0]
                lines.append(
                    f"{a.label} "
                    + " ".join(f"{v / (image.height if n % 2 else image.width):.6f}" for n, v in enumerate(values))
                )
            path = (root / "labels" / part / image.key).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines))
    if yaml:
        places = "\n".join(f"{part or 'train'}: images/{part}" for part in parts)
        names = "\n".join(f"  {n}: {json.dumps(name)}" for n, name in enumerate(classes))
        (root / "data.yaml").write_text(f"path: .\n{places}\nnc: {len(classes)}\nnames:\n{names}\n")
    else:
        (root / "classes.txt").write_text("\n".join(classes))


def as_voc(root: Path, parts: Parts) -> None:
    """Pascal VOC's own layout; crowds are difficult."""
    lists = root / "ImageSets" / "Main"
    for folder in (lists, root / "Annotations"):
        folder.mkdir(parents=True)
    for part, data in parts.items():
        stems = []
        for image in data.images:
            path = link(image, root / "JPEGImages", Path(image.key).name)
            stems.append(path.stem)
            top = Element("annotation")
            SubElement(top, "filename").text = path.name
            size = SubElement(top, "size")
            for tag, value in (("width", image.width), ("height", image.height), ("depth", 3)):
                SubElement(size, tag).text = str(value)
            for a in image.annotations:
                row = SubElement(top, "object")
                SubElement(row, "name").text = data.classes[a.label]
                SubElement(row, "difficult").text = str(int(a.crowd))
                box = SubElement(row, "bndbox")
                x0, y0, x1, y1 = a.box
                corners = (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1))
                for tag, value in corners:
                    SubElement(box, tag).text = str(round(value))
                if a.crowd:
                    continue
                inner = SubElement(SubElement(row, "part"), "bndbox")  # people's heads and hands
                for tag, _ in corners:
                    SubElement(inner, tag).text = "1"
            ElementTree(top).write(root / "Annotations" / f"{path.stem}.xml")
        (lists / f"{part or 'trainval'}.txt").write_text("\n".join(stems))
    (lists / "dog_train.txt").write_text("000001 -1\n")


def as_labelme(root: Path, parts: Parts, *, polygons: bool = False) -> None:
    """A JSON beside each image, with Windows' paths."""
    for part, data in parts.items():
        for image in data.images:
            path = link(image, root / part)
            shapes = []
            for a in image.annotations:
                flat = a.outline[0] if polygons else a.box
                shapes.append(
                    {
                        "label": data.classes[a.label],
                        "points": [list(flat[n : n + 2]) for n in range(0, len(flat), 2)],
                        "group_id": None,
                        "shape_type": "polygon" if polygons else "rectangle",
                        "flags": {},
                    }
                )
            shapes.append({"label": "nose", "points": [[1, 1]], "group_id": None, "shape_type": "point", "flags": {}})
            sizes = {"imageWidth": image.width, "imageHeight": image.height}
            content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"..\\pictures\\{path.name}"}
            path.with_suffix(".json").write_text(json.dumps({**content, "imageData": None, **sizes}))


def as_cvat(root: Path, parts: Parts, *, polygons: bool = False) -> None:
    """One annotations.xml whose images are of subsets."""
    top = Element("annotations")
    labels = SubElement(SubElement(SubElement(top, "meta"), "task"), "labels")
    for name in next(iter(parts.values())).classes:
        SubElement(SubElement(labels, "label"), "name").text = name
    for part, data in parts.items():
        for image in data.images:
            link(image, root / "images" / part)
            named = f"{part}/{image.key}" if part else image.key
            sizes = {"width": str(image.width), "height": str(image.height)}
            row = SubElement(top, "image", {"id": str(image.id), "name": named, "subset": part or "default", **sizes})
            for a in image.annotations:
                name = {"label": data.classes[a.label], "occluded": "0"}
                if polygons:
                    points = [f"{x:.2f},{y:.2f}" for x, y in zip(a.outline[0][::2], a.outline[0][1::2], strict=True)]
                    SubElement(row, "polygon", {**name, "points": ";".join(points)})
                else:
                    sides = zip(("xtl", "ytl", "xbr", "ybr"), a.box, strict=True)
                    SubElement(row, "box", {**name, **{side: f"{value:.2f}" for side, value in sides}})
            SubElement(row, "points", {"label": "nose", "points": "1.00,2.00"})
    ElementTree(top).write(root / "annotations.xml", encoding="utf-8", xml_declaration=True)


def as_open_images(root: Path, parts: Parts) -> None:
    """A CSV a part; classes have codes for names."""
    classes = next(iter(parts.values())).classes
    root.mkdir(parents=True)
    with open(root / "class-descriptions-boxable.csv", "w", newline="") as file:
        csv.writer(file).writerows([f"/m/{n:03}", name] for n, name in enumerate(classes))
    for part, data in parts.items():
        name = {"val": "validation", "": "images"}.get(part, part)
        with open(root / f"{name}-annotations-bbox.csv", "w", newline="") as file:
            write = csv.writer(file)
            head = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsOccluded"]
            write.writerow([*head, "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"])
            for image in data.images:
                path = link(image, root / name)
                for a in image.annotations:
                    x0, y0, x1, y1 = (v / (image.height if n % 2 else image.width) for n, v in enumerate(a.box))
                    row = [path.stem, "xclick", f"/m/{a.label:03}", 1, x0, x1, y0, y1, 0, 0, int(a.crowd), 0, 0]
                    write.writerow(row)


def as_panoptic(root: Path, scenes: Path, *, ignored: int = 9) -> None:
    """Label maps of `make_scenes` as panoptic COCO's: the left and right half of each class are segments of their own,
    by ids of three bytes; category ids are not in a row."""
    names = (scenes / "classes.txt").read_text().splitlines()
    for part in ("train", "val"):
        images, maps = [], []
        folder = root / "annotations" / f"panoptic_{part}2017"
        folder.mkdir(parents=True)
        for number, file in enumerate(sorted((scenes / "images" / part).iterdir()), start=100):
            target = root / f"{part}2017" / file.name
            target.parent.mkdir(exist_ok=True)
            os.link(file, target)
            with Image.open(scenes / "annotations" / part / file.name) as picture:
                numbers = np.asarray(picture).astype(np.int64)
            half = np.arange(numbers.shape[1]) >= numbers.shape[1] // 2
            ids = np.where(numbers == ignored, 0, 70_000 * (numbers + 1) + 300 * half + number)
            pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{file.stem}.png")
            found = np.unique(ids[ids > 0]).tolist()
            rows = [{"id": id, "category_id": 5 * (id // 70_000), "iscrowd": 0, "area": 1} for id in found]
            height, width = numbers.shape
            images.append({"id": number, "file_name": file.name, "width": width, "height": height})
            maps.append({"image_id": number, "file_name": f"{file.stem}.png", "segments_info": rows})
        categories = [{"id": 5 * n, "name": name, "isthing": 0} for n, name in enumerate(names, start=1)]
        content = {"images": images, "annotations": maps, "categories": categories}
        (root / "annotations" / f"panoptic_{part}2017.json").write_text(json.dumps(content))


BOXES: dict[str, Callable[[Path, Parts], None]] = {
    "coco": as_coco,
    "yolo": as_yolo,
    "voc": as_voc,
    "labelme": as_labelme,
    "cvat": as_cvat,
    "open_images": as_open_images,
}
"""Writers of boxes."""


def objects_of(data: DetectionSet, image: AnnotatedImage) -> list[tuple[str, bool, tuple[float, ...]]]:
    """Class, whether it is a crowd, and box of each object, sorted."""
    return sorted((data.classes[a.label], a.crowd, a.box) for a in image.annotations)


def assert_same(found: Parts, truth: Parts, *, within: float = 1.0) -> None:
    """The same images in each part, with objects of the same classes in the same places."""
    assert found.keys() == truth.keys()
    for part, data in nonempty(truth.items()):
        theirs = {image.key: image for image in found[part].images}
        assert sorted(theirs) == sorted(image.key for image in data.images)
        for image in data.images:
            left = objects_of(found[part], theirs[image.key])
            assert theirs[image.key].left_out == 0
            missed = []
            for name, crowd, box in objects_of(data, image):
                same = [row for row in left if row[:2] == (name, crowd) and row[2] == pytest.approx(box, abs=within)]
                if same:
                    left.remove(same[0])
                else:
                    missed.append((name, crowd, box))
            assert (image.key, missed, left) == (image.key, [], [])
            assert (theirs[image.key].width, theirs[image.key].height) == (image.width, image.height)
