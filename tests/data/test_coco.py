"""COCO's JSON is read, its faults are found and counted, and what makes no sense is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from convnext.data.coco import Annotated, is_outline, read_annotated, read_coco
from convnext.data.faults import Faults
from convnext.data.outlines import to_masks
from convnext.errors import InputError


def box(number: int, image: int = 1, category: int = 3, **other: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": image, "category_id": category, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0}
    return {**row, "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]], **other}


def content() -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 24} for n in (1, 2)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [box(1), box(2, image=2, category=7)],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    for n in (1, 2):
        Image.new("RGB", (32, 24)).save(tmp_path / "train" / f"{n}.png")
    return tmp_path


def read(folder: Path, rows: Any) -> tuple[Annotated, Faults]:
    (folder / "train.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    faults = Faults()
    return read_coco(folder / "train.json", folder / "train", faults), faults


def test_classes_are_the_categories_in_the_order_of_their_ids(folder: Path) -> None:
    data, faults = read(folder, content())
    assert (data.classes, data.category_ids) == (("cat", "dog"), (3, 7))
    assert [image.annotations[0].label for image in data.images] == [0, 1]
    assert data.images[0].annotations[0].box == (2, 3, 12, 11)
    assert not faults.lines()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (box(9, image=5), "annotations of images that are not listed: 1 (annotation 9: image 5)"),
        (box(9, category=4), "annotations of categories that are not listed: 1 (annotation 9: category 4)"),
        (box(9, bbox=[2, 3, 0, 8]), "boxes of no area: 1 (annotation 9)"),
        (box(9, bbox=[40, 3, 10, 8]), "boxes outside their image: 1 (annotation 9)"),
        (box(9, bbox=[2, 3, 10]), "boxes that are not four numbers: 1 (annotation 9)"),
        (box(9, bbox=[2, 3, float("nan"), 8]), "boxes that are not four numbers: 1 (annotation 9)"),
        (box(9, segmentation=[[1, 2, 3, 4]]), "malformed outlines: 1 (annotation 9)"),
        (box(9, segmentation=[[1, 2, 3, 4, 5, "x"]]), "malformed outlines: 1 (annotation 9)"),
        (box(9, segmentation={"size": [24, 31], "counts": [24 * 31]}), "malformed outlines: 1 (annotation 9)"),
        (box(9, segmentation={"size": [24, 32], "counts": [1, 2]}), "malformed outlines: 1 (annotation 9)"),
        (box(9, segmentation={"size": [24, 32], "counts": "\u00e9"}), "malformed outlines: 1 (annotation 9)"),
        (box(9, segmentation={"size": [24.0, 32.0], "counts": [24 * 32]}), "malformed outlines: 1 (annotation 9)"),
        (box(9, segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), "malformed outlines: 1 (annotation 9)"),
        (box(9, bbox=[0, 0, 10**400, 5]), "boxes that are not four numbers: 1 (annotation 9)"),
        (box(9, image=[1]), "annotations of images that are not listed: 1 (annotation 9: image [1])"),
        (box(1), "annotation ids that appear again: 1 (annotation 1)"),
    ],
)
def test_a_bad_annotation_is_left_out_and_counted(folder: Path, bad: dict[str, Any], said: str) -> None:
    rows = content()
    rows["annotations"].append(bad)
    data, faults = read(folder, rows)
    assert [len(image.annotations) for image in data.images] == [1, 1]
    assert faults.lines() == [said]


def test_boxes_are_cut_at_the_image(folder: Path) -> None:
    rows = content()
    rows["annotations"][0]["bbox"] = [-5, -5, 100, 100]
    assert read(folder, rows)[0].images[0].annotations[0].box == (0, 0, 32, 24)


def test_images_without_a_file_are_left_out_and_examples_are_few(folder: Path) -> None:
    rows = content()
    rows["images"] += [{"id": n, "file_name": f"no{n}.png", "width": 32, "height": 24} for n in range(10, 20)]
    data, faults = read(folder, rows)
    assert len(data) == 2
    assert faults.lines() == [f"images that are not in {folder / 'train'}: 10 (no10.png, no11.png, no12.png)"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows["images"].append(rows["images"][0]), "image id 1 appears twice"),
        (lambda rows: rows["categories"].append({"id": 3, "name": "x"}), "category id 3 appears twice"),
        (lambda rows: rows["categories"].append({"id": 9, "name": "cat"}), "category name cat appears twice"),
        (lambda rows: rows.pop("categories"), "it has no list 'categories'"),
        (lambda rows: rows["images"].append({"file_name": "x"}), "entry 2 of 'images' has no integer id"),
        (lambda rows: [i.update(file_name="x") for i in rows["images"]], "none of its 2 images can be used"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, change: Callable, said: str) -> None:
    rows = content()
    change(rows)
    with pytest.raises(InputError, match=said):
        read(folder, rows)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", "\x00"])
def test_what_is_not_coco_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"not JSON|not COCO's form"):
        read(folder, text)


def test_three_layouts_and_what_is_held_out(folder: Path) -> None:
    (folder / "train.json").write_text(json.dumps(content()))
    splits = read_annotated(folder)
    assert (len(splits.train), len(splits.val)) == (1, 1)  # by hash
    (folder / "annotations").mkdir()
    (folder / "train.json").rename(folder / "annotations" / "instances_train2017.json")
    (folder / "train").rename(folder / "train2017")
    assert len(read_annotated(folder).train) == 1
    (folder / "annotations" / "instances_train2017.json").rename(folder / "train2017" / "_annotations.coco.json")
    for split in ("train", "valid"):
        place = folder / "robo" / split
        place.mkdir(parents=True)
        for file in (folder / "train2017").iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    splits = read_annotated(folder / "robo")
    assert (len(splits.train), len(splits.val)) == (2, 2)
    rows = content()
    rows["categories"][0]["name"] = "wolf"
    (folder / "robo" / "valid" / "_annotations.coco.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match="other categories"):
        read_annotated(folder / "robo")


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_annotated(tmp_path / "none")
    with pytest.raises(InputError, match="no annotations found"):
        read_annotated(tmp_path)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # raised inside pycocotools
def test_codes_are_understood_as_pycocotools_does() -> None:
    import numpy as np
    from pycocotools import mask

    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 60, 2).tolist()
        shape = (rng.random((height, width)) < rng.random()).astype(np.uint8)
        code = mask.encode(np.asfortranarray(shape))
        code = {"size": code["size"], "counts": code["counts"].decode()}
        assert is_outline(code, width, height)
        assert (to_masks([code], width, height)[0].numpy() == shape).all()
        assert not is_outline({**code, "counts": code["counts"][:-1]}, width, height)
        assert not is_outline(code, width + 1, height)
    polygon = [[1.0, 1.0, 9.0, 1.0, 9.0, 7.0]]
    theirs = mask.decode(mask.merge(mask.frPyObjects(polygon, 10, 12)))
    assert (to_masks([polygon], 12, 10)[0].numpy() == theirs).all()
