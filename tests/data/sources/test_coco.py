"""COCO's JSON is read, its faults are found and counted, and what makes no sense is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from convnext.data.problems import Problems
from convnext.data.rle import to_masks
from convnext.data.sources.annotated import DetectionSet
from convnext.data.sources.coco import find_coco_parts, read_coco
from convnext.data.sources.coco_fields import is_code, read_id
from convnext.data.sources.detection import read_annotated
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


def read(folder: Path, rows: Any) -> tuple[DetectionSet, Problems]:
    (folder / "train.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    faults = Problems()
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
        (box(9, bbox=[2, 3, 0, 8], segmentation=[]), "boxes of no area: 1 (annotation 9)"),
        (box(9, bbox=[40, 3, 10, 8], segmentation=None), "boxes outside their image: 1 (annotation 9)"),
        (box(9, bbox=[2, 3, 10], segmentation=[[]]), "boxes that are not four numbers: 1 (annotation 9)"),
        (box(9, bbox=[2, 3, float("nan"), 8], segmentation=[]), "boxes that are not four numbers: 1 (annotation 9)"),
        (box(9, bbox=[0, 0, 10**400, 5], segmentation=[]), "boxes that are not four numbers: 1 (annotation 9)"),
        (box(9, image=[1]), "annotations of images that are not listed: 1 (annotation 9: image [1])"),
    ],
)
def test_a_bad_annotation_is_left_out_and_counted(folder: Path, bad: dict[str, Any], said: str) -> None:
    rows = content()
    rows["annotations"].append(bad)
    data, faults = read(folder, rows)
    assert [len(image.annotations) for image in data.images] == [1, 1]
    assert faults.lines() == [said]


MALFORMED = "malformed outlines, whose objects keep their boxes: 1 (annotation 9)"
SCRAPS = "outlines with parts of fewer than three points, which are left out: 1 (annotation 9)"
SQUARE = [2, 3, 12, 3, 12, 11, 2, 11]


@pytest.mark.parametrize(
    ("outline", "kept", "said"),
    [
        ([SQUARE, [1, 2, 3, 4]], [SQUARE], SCRAPS),
        ([[2, 3, 12, 11]], None, SCRAPS),  # of exporters that know boxes alone
        ([[1, 2, 3, 4, 5, 6, 7]], None, SCRAPS),
        ([[]], None, None),
        ([], None, None),
        (None, None, None),
        (SQUARE, [SQUARE], None),
        ([[1, 2, 3, 4, 5, "x"]], None, MALFORMED),
        ("text", None, MALFORMED),
        ({"size": [24, 31], "counts": [24 * 31]}, None, MALFORMED),
        ({"size": [24, 32], "counts": [1, 2]}, None, MALFORMED),
        ({"size": [24, 32], "counts": "\u00e9"}, None, MALFORMED),
        ({"size": [24, 32], "counts": "o" * 300}, None, MALFORMED),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], None, MALFORMED),
        ({"size": [24, 32], "counts": [700, 68]}, {"size": [24, 32], "counts": [700, 68]}, None),
    ],
)
def test_an_outline_is_no_reason_to_lose_an_object(folder: Path, outline: Any, kept: Any, said: str | None) -> None:
    rows = content()
    rows["annotations"].append(box(9, segmentation=outline))
    data, faults = read(folder, rows)
    assert len(data.images[0].annotations) == 2
    found = data.images[0].annotations[1]
    assert (found.box, found.outline) == ((2, 3, 12, 11), kept)
    assert faults.notes() == ([said] if said else [])
    assert not faults.lines()


@pytest.mark.parametrize("missing", [None, [], [2, 3], [2, 3, 0, 8], [90, 3, 4, 8]])
@pytest.mark.parametrize("outline", [[SQUARE], {"size": [24, 32], "counts": [3 + 2 * 24, *[8, 16] * 9, 8, 493]}])
def test_a_box_is_taken_from_its_outline_where_it_is_missing(folder: Path, missing: Any, outline: Any) -> None:
    rows = content()
    rows["annotations"].append(box(9, bbox=missing, segmentation=outline))
    data, faults = read(folder, rows)
    assert data.images[0].annotations[1].box == (2, 3, 12, 11)
    assert faults.notes() == ["boxes taken from their outlines: 1 (annotation 9)"]


def test_ids_of_annotations_are_not_needed(folder: Path) -> None:
    rows = content()
    for id in (1, 1, "1", 1.0, "a-b", None):
        rows["annotations"].append(box(1, id=id))
    rows["annotations"].append({key: value for key, value in box(1).items() if key != "id"})
    data, faults = read(folder, rows)
    assert len(data.images[0].annotations) == 8
    assert not faults.lines()
    assert faults.notes()[0].startswith("ids of annotations that appear again, which are not needed: 4 (annotation 1")


def test_ids_and_sizes_written_as_text_or_floats_are_the_same_numbers(folder: Path) -> None:
    rows = content()
    for image in rows["images"]:
        image |= {"id": float(image["id"]), "width": 32.0, "height": "24"}
    rows["annotations"] = [box(1, image="1", category="3"), box(2, image=2.0, category=7.0)]
    data, faults = read(folder, rows)
    assert [(image.id, image.width, image.height) for image in data.images] == [(1, 32, 24), (2, 32, 24)]
    assert [image.annotations[0].label for image in data.images] == [0, 1]
    assert not faults.lines()
    for image in rows["images"]:
        image["id"] = f"uuid-{image['id']:.0f}"
    rows["annotations"] = [box(1, image="uuid-2")]
    data, _ = read(folder, rows)
    assert [(image.id, len(image.annotations)) for image in data.images] == [("uuid-1", 0), ("uuid-2", 1)]


def test_a_root_category_is_no_class(folder: Path) -> None:
    rows = content()
    for row in rows["categories"]:
        row["supercategory"] = "animals"
    rows["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
    data, faults = read(folder, rows)
    assert data.classes == ("cat", "dog")
    assert "animals" in faults.notes()[0]
    rows["annotations"].append(box(3, category=0))  # one that has an object is a class
    assert read(folder, rows)[0].classes == ("animals", "cat", "dog")


def test_a_category_that_stands_above_itself_alone_is_a_class(folder: Path) -> None:
    """COCO's "person", in a part without people."""
    rows = content()
    rows["categories"].append({"id": 1, "name": "person", "supercategory": "person"})
    data, faults = read(folder, rows)
    assert data.classes == ("person", "cat", "dog")
    assert not faults.notes()


def test_boxes_of_another_form_are_noted(folder: Path) -> None:
    rows = content()
    rows["annotations"] = [
        box(1, bbox=[20, 10, 31, 20]),
        box(2, bbox=[0.1, 0.2, 0.5, 0.5]),
        box(3, bbox=[2, 3, 30.5, 21]),
    ]
    _, faults = read(folder, rows)
    assert faults.notes() == [
        "boxes that reach beyond their image (are they x0, y0, x1, y1?): 1 (annotation 1)",
        "boxes under a pixel (are they parts of the image, 0 to 1?): 1 (annotation 2)",
    ]


def test_files_are_found_however_they_are_named(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (32, 24)).save(elsewhere / "3.png")
    (folder / "train" / "linked").symlink_to(elsewhere)
    names = ["1.png", "train/2.png", "linked\\3.png", str(elsewhere / "3.png")]
    rows = content()
    rows["images"] = [{"id": n, "file_name": name, "width": 32, "height": 24} for n, name in enumerate(names, 1)]
    data, faults = read(folder, rows)
    assert not faults.lines()
    assert [image.key for image in data.images] == ["1.png", "2.png", "linked/3.png", "3.png"]
    assert all(image.file.is_file() for image in data.images)
    rows["images"].append({"id": 9, "file_name": "2.PNG", "width": 32, "height": 24})
    assert "2.PNG, where there is 2.png" in read(folder, rows)[1].lines()[0]


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
        (lambda rows: rows["images"].append({"file_name": "x"}), "entry 2 of 'images' has no id"),
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


def test_layouts_and_their_parts(folder: Path) -> None:
    (folder / "train.json").write_text(json.dumps(content()))
    assert len(read_annotated(folder).parts[""]) == 2  # it does not say what is held out
    (folder / "annotations").mkdir()
    (folder / "train.json").rename(folder / "annotations" / "instances_train2017.json")
    (folder / "train").rename(folder / "train2017")
    assert len(read_annotated(folder).parts[""]) == 2
    (folder / "annotations" / "instances_train2017.json").rename(folder / "train2017" / "_annotations.coco.json")
    for split in ("train", "valid", "test"):
        place = folder / "robo" / split
        place.mkdir(parents=True)
        for file in (folder / "train2017").iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    assert list(find_coco_parts(folder / "robo")) == ["train", "val", "test"]
    parts = read_annotated(folder / "robo", only=("train", "val")).parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 2, "val": 2}
    assert len(read_annotated(folder / "robo" / "valid").parts[""]) == 2  # a part alone
    shutil.rmtree(folder / "robo" / "train")
    assert list(read_annotated(folder / "robo", classes=["cat", "dog"]).parts) == ["val", "test"]


def test_categories_of_a_held_out_part_are_matched_by_name(folder: Path) -> None:
    (folder / "train.json").write_text(json.dumps(content()))
    (folder / "train").rename(folder / "val")
    shutil.copytree(folder / "val", folder / "train")
    rows = content()
    rows["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "owl"}]
    rows["annotations"] = [box(1, category=1)]
    (folder / "val.json").write_text(json.dumps(rows))
    val = read_annotated(folder).parts["val"]
    assert val.classes == ("cat", "dog")
    assert val.images[0].annotations[0].label == 1
    rows["annotations"].append(box(2, category=2))
    (folder / "val.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match="objects of classes that are not among the others': owl"):
        read_annotated(folder)


@pytest.mark.parametrize(
    ("name", "images", "objects", "boxes", "labels"),
    [
        ("coco100/train", 100, 746, 841379, 20313),
        ("nuclei/train", 200, 5685, 2864011, 0),
        ("nuclei/val", 60, 1718, 883217, 0),
    ],
)
def test_right_data_are_read_as_they_were(
    name: str, images: int, objects: int, boxes: float, labels: int, real_images: Path
) -> None:
    """Sums as version 010dc50 gave them."""
    faults = Problems()
    data = read_coco(real_images / f"{name}.json", real_images / name, faults)
    found = [a for image in data.images for a in image.annotations]
    assert (len(data), len(found), sum(a.label for a in found)) == (images, objects, labels)
    assert sum(sum(a.box) for a in found) == pytest.approx(boxes, abs=0.01)
    assert all(a.outline is not None for a in found)
    assert not faults.lines()
    assert not faults.notes()


@pytest.mark.parametrize("groups", [1, 7, 13])
def test_runs_of_padded_numbers_are_read_as_they_are_drawn(groups: int) -> None:
    """A number may take up to 13 groups of five bits."""
    code = {"size": [24, 32], "counts": padded([700, 68], groups)}
    assert is_code(code, 32, 24)
    assert int(to_masks([code], 32, 24).sum()) == 68


@pytest.mark.parametrize("counts", [14, 15, "o" * 10**7])
def test_runs_of_more_groups_are_malformed(folder: Path, counts: int | str) -> None:
    """They cannot be drawn; and reading on would take quadratic time."""
    text = counts if isinstance(counts, str) else padded([700, 68], counts)
    rows = content()
    rows["annotations"].append(box(9, segmentation={"size": [24, 32], "counts": text}))
    data, faults = read(folder, rows)
    assert data.images[0].annotations[1].outline is None
    assert faults.notes() == [MALFORMED]


def padded(runs: list[int], groups: int) -> str:
    """COCO's compressed code of two run lengths, each in at least so many groups."""
    text = ""
    for run in runs:
        parts = [run & 31]
        while run > 15 or len(parts) < groups:
            run >>= 5
            parts.append(run & 31)
        text += "".join(chr(48 + part + 32 * (i + 1 < len(parts))) for i, part in enumerate(parts))
    return text


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (2**31 - 1, "images of more pixels than are read: 1 (image 2: 2147483647×2147483647)"),
        (10**5, "images of more pixels than are read: 1 (image 2: 100000×100000)"),
        (2**31, "images without width and height: 1 (image 2)"),
        (10**30, "images without width and height: 1 (image 2)"),
    ],
)
def test_sizes_that_no_image_has_are_left_out(folder: Path, side: int, said: str) -> None:
    """Outlines would be drawn at the size the JSON says."""
    rows = content()
    rows["images"][1] |= {"width": side, "height": side}
    data, faults = read(folder, rows)
    assert [image.id for image in data.images] == [1]
    assert faults.lines() == [said]


def test_negative_and_huge_ids_are_ids(folder: Path) -> None:
    assert (read_id("-1"), read_id(" 07"), read_id("-"), read_id("--1")) == (-1, 7, "-", "--1")
    rows = content()
    for old, new in ((1, -1), (2, 2**70)):
        rows["images"][old - 1]["id"] = new
        rows["annotations"][old - 1]["image_id"] = str(new) if new < 0 else new
    data, faults = read(folder, rows)
    assert [(image.id, len(image.annotations)) for image in data.images] == [(-1, 1), (2**70, 1)]
    assert not faults.lines()


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
        assert is_code(code, width, height)
        assert (to_masks([code], width, height)[0].numpy() == shape).all()
        assert not is_code({**code, "counts": code["counts"][:-1]}, width, height)
        assert not is_code(code, width + 1, height)
    polygon = [[1.0, 1.0, 9.0, 1.0, 9.0, 7.0]]
    theirs = mask.decode(mask.merge(mask.frPyObjects(polygon, 10, 12)))
    assert (to_masks([polygon], 12, 10)[0].numpy() == theirs).all()
