"""One set of annotated images, written in every form that people have: the same objects, classes and parts are read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from annotating import (
    BOXES,
    Parts,
    as_coco,
    as_cvat,
    as_labelme,
    as_voc,
    as_yolo,
    assert_same,
    coco_content,
    link,
)
from PIL import Image
from vacuous import nonempty

from convnext.data.rle import to_masks
from convnext.data.sources.detection import DETECTION_FORMATS, find_detection, read_annotated
from convnext.errors import InputError
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.read import read_detection_data


@pytest.mark.parametrize("form", BOXES)
def test_boxes_of_every_form_are_the_same(form: str, truth: Parts, tmp_path: Path) -> None:
    BOXES[form](tmp_path / "data", truth)
    if form == "open_images":  # a row is an object: it cannot say that an image shows none
        truth = {part: replace(d, images=tuple(i for i in d.images if i.annotations)) for part, d in truth.items()}
    assert find_detection(tmp_path / "data").name == form
    found = read_annotated(tmp_path / "data")
    assert_same(found.parts, truth, within=0.6)
    assert not found.faults.lines()
    if DETECTION_FORMATS[form].lists_classes:
        assert found.parts["train"].classes == truth["train"].classes
    alone = {"": truth["train"]}
    BOXES[form](tmp_path / "alone", alone)
    assert_same(read_annotated(tmp_path / "alone").parts, alone, within=0.6)


@pytest.mark.parametrize("write", [as_coco, *(partial(each, polygons=True) for each in (as_yolo, as_labelme, as_cvat))])
def test_outlines_of_every_form_are_the_same(write: Any, truth: Parts, tmp_path: Path) -> None:
    write(tmp_path / "data", truth)
    found = read_annotated(tmp_path / "data").parts
    assert_same(found, truth, within=0.6)
    theirs = {image.key: image for image in found["val"].images}
    pairs = [
        (image, own.outline, their.outline)
        for image in truth["val"].images
        for own, their in zip(
            sorted(image.annotations, key=lambda a: truth["val"].classes[a.label]),
            sorted(theirs[image.key].annotations, key=lambda a: found["val"].classes[a.label]),
            strict=True,
        )
    ]
    for image, own, their in nonempty(pairs):
        a, b = (to_masks([outline], image.width, image.height) for outline in (own, their))
        assert (a & b).sum() >= 0.98 * (a | b).sum()


@pytest.mark.parametrize("data", ["coco100", "nuclei"])
@pytest.mark.parametrize("form", BOXES)
def test_real_objects_are_the_same(form: str, data: str, real_images: Path, tmp_path: Path) -> None:
    """Only COCO, Open Images and VOC know crowds or what stands for them; only COCO, images without objects and
    objects without a whole pixel."""
    native = list(read_annotated(real_images / data).parts.values())[-1]
    kept = tuple(
        replace(image, key=image.file.name, annotations=tuple(a for a in image.annotations if not a.crowd))
        for image in native.images
    )
    truth = {"": replace(native, images=tuple(image for image in kept if image.annotations))}
    BOXES[form](tmp_path / "data", truth)
    found = read_annotated(tmp_path / "data", classes=native.classes)
    assert_same(found.parts, truth)
    assert found.parts[""].classes == native.classes


def test_the_same_images_are_held_out_whatever_the_form(truth: Parts, tmp_path: Path) -> None:
    whole = {"": replace(truth["train"], images=tuple(i for i in truth["train"].images if i.annotations))}
    held = {}
    for form, write in BOXES.items():
        write(tmp_path / form, whole)
        held[form] = {i.key for i in read_detection_data(DetectConfig(data=str(tmp_path / form))).val.images}
    assert held["coco"]
    assert all(keys == held["coco"] for keys in nonempty(held.values()))


def test_crowds_are_ignored_in_the_forms_that_know_them(truth: Parts, tmp_path: Path) -> None:
    """Of VOC, objects marked as difficult."""
    data = truth["val"]
    images = [replace(i, annotations=tuple(replace(a, crowd=True) for a in i.annotations[:1])) for i in data.images]
    crowded = {"": replace(data, images=tuple(image for image in images if image.annotations))}
    for form in ("coco", "voc", "open_images"):
        BOXES[form](tmp_path / form, crowded)
        parts = read_annotated(tmp_path / form).parts
        assert_same(parts, crowded)
        assert all(a.crowd for image in nonempty(parts[""].images) for a in image.annotations)


# COCO as people have it


@pytest.mark.parametrize(
    ("json_name", "images", "name"),
    [
        ("trainval.json", "images", "{}"),
        ("labels.json", "data", "{}"),  # FiftyOne
        ("result.json", "images", "images\\{}"),  # Label Studio
        ("my export (1).json", "photos/deep", "C:\\Users\\me\\{}"),
        ("annotations/all.json", "images", "../../upload/1/{}"),
        ("annotations.json", ".", "{}"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_one_json_of_any_name_and_place(
    json_name: str, images: str, name: str, named: bool, truth: Parts, tmp_path: Path
) -> None:
    data = truth["train"]
    for image in data.images:
        link(image, tmp_path / images)
    path = tmp_path / json_name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(coco_content(data, lambda key: name.format(key))))
    found = read_annotated(path if named else tmp_path).parts
    assert list(found) == [""]
    assert sorted(image.file.name for image in found[""].images) == sorted(image.key for image in data.images)
    assert sum(len(image.annotations) for image in found[""].images) == sum(len(i.annotations) for i in data.images)


def test_several_jsons_are_one_part_or_are_the_parts_that_they_name(truth: Parts, tmp_path: Path) -> None:
    for number, data in enumerate(truth.values()):
        for image in data.images:
            link(image, tmp_path / "images")
        numbered = replace(data, images=tuple(replace(i, id=f"{number}-{i.id}") for i in data.images))
        (tmp_path / f"batch_{number}.json").write_text(json.dumps(coco_content(numbered)))
    found = read_annotated(tmp_path).parts
    assert {part: len(data) for part, data in found.items()} == {"": sum(map(len, truth.values()))}
    (tmp_path / "batch_0.json").rename(tmp_path / "My_Train_set.json")
    (tmp_path / "batch_1.json").rename(tmp_path / "My_Valid_set.json")
    assert {part: len(data) for part, data in read_annotated(tmp_path).parts.items()} == {"train": 6, "val": 3}
    shutil.copy(tmp_path / "My_Train_set.json", tmp_path / "copy_train.json")
    with pytest.raises(InputError, match="is in 2 files of annotations; give one of them as DATA"):
        read_annotated(tmp_path)


def test_an_image_of_another_part_is_not_taken_for_one_that_is_missing(truth: Parts, tmp_path: Path) -> None:
    as_coco(tmp_path / "data", truth)
    lost = next(iter((tmp_path / "data" / "images" / "train").iterdir()))
    lost.rename(tmp_path / "data" / "images" / "val" / lost.name)
    found = read_annotated(tmp_path / "data")
    assert len(found.parts["train"]) == 5
    assert "images that are not in" in found.faults.lines()[0]


# VOC, Labelme and CVAT as people have them


def test_voc_among_its_images(truth: Parts, tmp_path: Path) -> None:
    """Roboflow's export: no ImageSets, XML beside the images."""
    as_voc(tmp_path / "voc", truth)
    for part, data in truth.items():
        folder = tmp_path / "flat" / {"val": "valid"}.get(part, part)
        folder.mkdir(parents=True)
        for image in data.images:
            shutil.copy(image.file, folder / image.key)
            shutil.copy(tmp_path / "voc" / "Annotations" / f"{Path(image.key).stem}.xml", folder)
    assert_same(read_annotated(tmp_path / "flat").parts, truth, within=0.6)


def test_pixels_of_voc_are_counted_from_1(tmp_path: Path) -> None:
    Image.new("RGB", (10, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>other.jpg</filename><size><width>10</width><height>8</height></size><object><name>x"
        "</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )
    assert read_annotated(tmp_path).parts[""].images[0].annotations[0].box == (0, 1, 10, 8)


def test_entities_are_refused(truth: Parts, tmp_path: Path) -> None:
    as_cvat(tmp_path, truth)
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>'
    (tmp_path / "annotations.xml").write_text(bomb)
    with pytest.raises(InputError, match="declares entities"):
        read_annotated(tmp_path)
    outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>'
    (tmp_path / "annotations.xml").write_text(outside)
    with pytest.raises(InputError, match="declares entities"):
        read_annotated(tmp_path)


def test_a_bad_xml_is_left_out_and_counted(truth: Parts, tmp_path: Path) -> None:
    as_voc(tmp_path, truth)
    files = sorted((tmp_path / "Annotations").glob("train*.xml"))
    files[0].write_text("<annotation><object>")
    files[1].unlink()
    found = read_annotated(tmp_path)
    assert len(found.parts["train"]) == 4
    assert {line.split(":")[0] for line in found.faults.lines()} == {
        "XML files that cannot be read",
        "images that are listed and have no XML",
    }


def test_polygons_of_one_group_are_one_object(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    corner = [[2, 2], [8, 2], [8, 8]]
    shapes: list[Any] = [
        {"label": "x", "points": corner, "group_id": 1, "shape_type": "polygon"},
        {"label": "x", "points": [[x + 20, y] for x, y in corner], "group_id": 1, "shape_type": "polygon"},
        {"label": "x", "points": [[10, 10], [13, 14]], "shape_type": "circle"},
        {"label": "y", "points": [[30, 30], [20, 20]], "shape_type": "rectangle"},
        {"label": "y", "points": [[1, 1], [2, 2]], "shape_type": "polygon"},
        {"label": "y", "points": "?"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    found = read_annotated(tmp_path)
    boxes = [(found.parts[""].classes[a.label], a.box) for a in found.parts[""].images[0].annotations]
    assert boxes == [("x", (2, 2, 28, 8)), ("x", pytest.approx((5, 5, 15, 15))), ("y", (20, 20, 30, 30))]
    assert found.faults.lines() == ["outlines that are none: 1 (a.png, object 4)"]


def test_rectangles_of_four_corners_and_turned_ones_are_objects(tmp_path: Path) -> None:
    """As X-AnyLabeling writes them."""
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    shapes: list[Any] = [
        {"label": "x", "points": [[2, 3], [12, 3], [12, 9], [2, 9]], "shape_type": "rectangle"},
        {"label": "y", "points": [[20, 10], [26, 14], [24, 18], [18, 14]], "shape_type": "rotation"},
        {"label": "y", "points": [[1, 1], [2, 2], [3, 3]], "shape_type": "rectangle"},
        {"label": "y", "points": [[1, 1]], "shape_type": "point"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    found = read_annotated(tmp_path)
    objects = found.parts[""].images[0].annotations
    boxes = [(found.parts[""].classes[a.label], a.box, a.outline is None) for a in objects]
    assert boxes == [("x", (2, 3, 12, 9), True), ("y", (18, 10, 26, 18), False)]
    assert found.faults.lines() == ["boxes that are not four numbers: 1 (a.png, object 3)"]


def test_masks_of_labelme_and_cvat(tmp_path: Path) -> None:
    import base64
    import io

    import numpy as np

    mask = np.array([[0, 1, 1], [1, 1, 0]], dtype=np.uint8)
    whole = np.zeros((9, 12), dtype=np.uint8)
    whole[4:6, 5:8] = mask
    file = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(file, format="PNG")
    for form in ("labelme", "cvat"):
        (tmp_path / form).mkdir()
        Image.new("RGB", (12, 9)).save(tmp_path / form / "a.png")
    shape = {"label": "x", "points": [[5, 4], [7, 5]], "shape_type": "mask", "mask": base64.b64encode(file.getvalue())}
    content = {"shapes": [{**shape, "mask": shape["mask"].decode()}], "imageWidth": 12, "imageHeight": 9}
    (tmp_path / "labelme" / "a.json").write_text(json.dumps(content))
    (tmp_path / "cvat" / "annotations.xml").write_text(
        '<annotations><image name="a.png" width="12" height="9"><mask label="x" rle="1,4,1" left="5" top="4" width="3" '
        'height="2"/><box label="x" xtl="2" ytl="3" xbr="8" ybr="5" rotation="90"/></image></annotations>'
    )
    for form in ("labelme", "cvat"):
        objects = read_annotated(tmp_path / form).parts[""].images[0].annotations
        assert (to_masks([objects[0].outline], 12, 9)[0].numpy() == whole).all()
        assert objects[0].box == (5, 4, 8, 6)
    assert objects[1].box == pytest.approx((4, 1, 6, 7))


# Which form it is, and classes of other models


def test_several_forms_are_said_and_one_can_be_named(truth: Parts, tmp_path: Path) -> None:
    as_yolo(tmp_path, truth)
    (tmp_path / "annotations").mkdir()
    for part, data in truth.items():
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(coco_content(data)))
    with pytest.raises(InputError, match="annotations in several forms, coco, yolo: --format coco takes one of them"):
        read_annotated(tmp_path)
    assert_same(read_annotated(tmp_path, form="yolo").parts, truth)
    assert read_detection_data(DetectConfig(data=str(tmp_path), format="coco")).faults.lines() == []
    with pytest.raises(InputError, match="no annotations found in the form of voc"):
        read_annotated(tmp_path, form="voc")
    with pytest.raises(InputError, match="no format 'jolo'"):
        read_annotated(tmp_path, form="jolo")


def test_classes_of_a_model_are_matched_by_name(truth: Parts, tmp_path: Path) -> None:
    as_labelme(tmp_path, truth)
    found = read_annotated(tmp_path, only=["val"], classes=["owl", "square"])
    assert found.parts["val"].classes == ("owl", "square")
    kept = {a.label for image in found.parts["val"].images for a in image.annotations}
    assert kept == {1}
    assert found.faults.lines()[0].startswith("classes that the model has not, with all their objects: 1 (circle: ")
    assert found.faults.notes() == ["classes of the model that the data do not have: 1 (owl)"]
    with pytest.raises(InputError, match="objects of classes that are not among the others': circle, square"):
        read_annotated(tmp_path, classes=["owl"])


def test_a_class_of_one_part_alone_is_a_class(truth: Parts, tmp_path: Path) -> None:
    """Where the form has no list of them."""
    data = truth["train"]
    few = tuple(replace(i, annotations=tuple(a for a in i.annotations if a.label == 0)) for i in data.images)
    as_voc(tmp_path, {"train": replace(data, images=few), "val": truth["val"]})
    found = read_annotated(tmp_path).parts
    assert found["train"].classes == found["val"].classes == ("circle", "square")
