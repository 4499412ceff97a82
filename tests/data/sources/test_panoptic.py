"""Panoptic COCO: the same pixels and classes as from label maps of numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotating import as_panoptic
from making import fails, make_scenes
from PIL import Image
from vacuous import nonempty

from convnext import cli
from convnext.data.fingerprint import of_maps
from convnext.data.image_set import read_images
from convnext.data.problems import Problems
from convnext.data.sources.label_maps import LabelRules, examine_label_maps
from convnext.data.sources.segmentation import read_label_maps
from convnext.errors import InputError


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    as_panoptic(tmp_path / "data", make_scenes(tmp_path / "scenes", train=3, val=2))
    return tmp_path / "data"


def edited(panoptic: Path, change: Any, part: str = "train") -> None:
    path = panoptic / "annotations" / f"panoptic_{part}2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_same_pixels_as_from_label_maps(panoptic: Path, tmp_path: Path) -> None:
    expected, found = read_label_maps(tmp_path / "scenes", LabelRules(9)), read_label_maps(panoptic, LabelRules())
    assert list(found.parts) == ["train", "val"]
    assert not found.faults.lines()
    for part, data in nonempty(expected.parts.items()):
        other = found.parts[part]
        assert other.classes == data.classes
        assert [image.key for image in other.images] == [image.key for image in data.images]
        examined, theirs = (examine_label_maps(each, Problems()).pixels.tolist() for each in (data, other))
        assert examined == theirs
        for number in nonempty(range(len(data.images))):
            assert np.array_equal(data.open(number)[1], other.open(number)[1])
    one = read_label_maps(panoptic / "annotations" / "panoptic_val2017.json", LabelRules()).parts[""]
    assert np.array_equal(one.open(1)[1], expected.parts["val"].open(1)[1])


def test_ids_are_red_first(tmp_path: Path) -> None:
    """By hand: id 1 is red alone, 256 green, 65,536 blue."""
    (tmp_path / "panoptic_val").mkdir()
    Image.new("RGB", (4, 1)).save(tmp_path / "a.jpg")
    pixels = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "panoptic_val" / "a.png")
    segments = [{"id": 1, "category_id": 0}, {"id": 256, "category_id": 7}, {"id": 65536, "category_id": 3}]
    content = {
        "images": [{"id": 0, "file_name": "a.jpg"}],
        "categories": [{"id": 0, "name": "x"}, {"id": 3, "name": "y"}, {"id": 7, "name": "z"}],
        "annotations": [{"image_id": 0, "file_name": "a.png", "segments_info": segments}],
    }
    (tmp_path / "panoptic_val.json").write_text(json.dumps(content))
    data = read_label_maps(tmp_path, LabelRules()).parts["val"]
    assert data.classes == ("x", "y", "z")
    assert data.open(0)[1].tolist() == [[0, 2, 1, -1]]


def test_what_cannot_be_used_is_left_out(panoptic: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][0]["segments_info"][0]["category_id"] = 99
        content["annotations"][1]["file_name"] = "nowhere.png"
        content["annotations"].append({"image_id": 5, "file_name": "other.png", "segments_info": []})

    edited(panoptic, spoil)
    found = read_label_maps(panoptic, LabelRules())
    assert [image.key for image in found.parts["train"].images] == ["2.png"]
    lines = "; ".join(found.faults.lines())
    for said in ("categories that are not listed, or", "nowhere.png", "images that are not listed: 1 (other.png"):
        assert said.split(", or")[0] in lines
    edited(panoptic, lambda content: content["annotations"][2]["segments_info"].pop())
    faults = Problems()
    with pytest.raises(InputError, match=r"no image can be used.*colours that are no segment: #"):
        examine_label_maps(read_label_maps(panoptic, LabelRules()).parts["train"], faults)
    edited(panoptic, lambda content: content.update(annotations=[]))
    with pytest.raises(InputError, match="none of its images can be used; images without a label map: 3"):
        read_label_maps(panoptic, LabelRules())


def test_classes_that_differ_between_parts(panoptic: Path) -> None:
    edited(panoptic, lambda content: content["categories"][2].update(name="crate"), "val")
    with pytest.raises(InputError, match="among the others': crate"):
        read_label_maps(panoptic, LabelRules())


def test_a_changed_class_is_other_data(panoptic: Path) -> None:
    before = of_maps(str(panoptic), read_label_maps(panoptic, LabelRules()).parts["train"])
    edited(panoptic, lambda content: content["annotations"][0]["segments_info"][0].update(category_id=15))
    assert of_maps(str(panoptic), read_label_maps(panoptic, LabelRules()).parts["train"]) != before


def test_checking_pretraining_and_a_wrong_format(panoptic: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train", "segment", str(panoptic), "--check"]) == 0
    assert "train: 3 of 3 images can be used" in capsys.readouterr().out
    assert len(read_images(panoptic)) == 5
    said = fails(capsys, "train", "segment", tmp_path / "scenes", "--format", "panoptic", "--check")
    assert "no JSON file of panoptic COCO" in said
