"""Folders of images and label maps: layouts, what numbers mean, and what is said of bad ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import make_scenes
from PIL import Image

from convnext.data.parts import divide_images
from convnext.data.problems import Problems
from convnext.data.sources.label_maps import (
    IGNORED,
    LOWEST,
    UNKNOWN,
    LabelRules,
    SegmentationSet,
    class_table,
    examine_label_maps,
    look_up,
    missing_classes,
    read_map,
)
from convnext.data.sources.segmentation import read_label_maps
from convnext.data.splits import HoldOut
from convnext.errors import ImageError, InputError


def read(folder: Path, rules: LabelRules | None = None) -> tuple[SegmentationSet, SegmentationSet, Problems]:
    parts, faults = read_label_maps(folder, rules or LabelRules(9))
    return parts["train"], parts["val"], faults


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return make_scenes(tmp_path / "scenes")


def test_reads_camvid(real_images: Path) -> None:
    train, val, faults = read(real_images / "camvid", LabelRules(11))
    assert (len(train), len(val), faults.lines()) == (367, 101, [])
    assert train.classes[:2] == ("sky", "building")
    image, labels = val.open(0)
    assert (image.height, image.width) == labels.shape
    assert IGNORED <= labels.min() < labels.max() <= 10
    examined = examine_label_maps(val, faults)
    assert len(examined.data) == 101
    assert (examined.pixels > 0).all()


def classes_of(rules: LabelRules, *numbers: int) -> list[int]:
    return look_up(class_table(["a", "b"], rules), np.array(numbers)).tolist()


def test_numbers_to_classes(tmp_path: Path) -> None:
    assert classes_of(LabelRules(), 0, 1, 2, 255) == [0, 1, UNKNOWN, IGNORED]
    reduced = LabelRules(reduce_zero_label=True)
    assert classes_of(reduced, 0, 1, 2, 3, 255) == [IGNORED, 0, 1, UNKNOWN, IGNORED]
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"17": "b", "40": 0, "3": None, "-1": None}))
    mapped = LabelRules.read(255, False, path)
    assert classes_of(mapped, 0, 3, 17, 40, 255, -1) == [UNKNOWN, IGNORED, 1, 0, IGNORED, IGNORED]


def test_numbers_below_zero_and_beyond_sixteen_bits_are_no_class() -> None:
    assert classes_of(LabelRules(), -1, -(2**31), 2**16, 2**31 - 1) == [UNKNOWN] * 4
    assert classes_of(LabelRules(ignore_index=-1), -1, 0, 255) == [IGNORED, 0, UNKNOWN]
    assert classes_of(LabelRules(ignore_index=65535), 65535, 65536) == [IGNORED, UNKNOWN]
    small = class_table(["a", "b"], LabelRules())
    assert look_up(small, np.array([0, 1, 255], dtype=np.uint8)).tolist() == [0, 1, IGNORED]
    assert small[-LOWEST] == 0


def signed(scenes: Path) -> None:
    """Label maps whose ignored pixels are -1, as many TIFF files have them."""
    for path in (scenes / "annotations" / "train").iterdir():
        numbers = np.asarray(Image.open(path)).astype(np.int32)
        path.unlink()
        Image.fromarray(np.where(numbers == 9, -1, numbers)).save(path.with_suffix(".tif"))


def test_signed_label_maps_are_not_taken_for_the_first_class(scenes: Path) -> None:
    pixels = examine_label_maps(read(scenes)[0], Problems()).pixels
    signed(scenes)
    with pytest.raises(InputError, match=r"none of the 3 classes: -1 \(444 pixels, first in .*\); --ignore-index N"):
        examine_label_maps(read(scenes)[0], Problems())
    examined = examine_label_maps(read(scenes, LabelRules(ignore_index=-1))[0], Problems())
    assert examined.pixels.tolist() == pixels.tolist()
    assert examined.ignored == {-1: 444}


def test_masks_of_0_and_255_are_refused(scenes: Path) -> None:
    """255 is ignored unless something else is said, and then only the background would be left."""
    (scenes / "classes.txt").write_text("background\nroad\n")
    for path in (scenes / "annotations" / "train").iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(path)) == 2, 255, 0).astype(np.uint8)).save(path)
    examined = examine_label_maps(read(scenes, LabelRules())[0], Problems())
    with pytest.raises(
        InputError, match=r"only one of 2 classes is there: no pixel of road; ignored: 255 \(8.* %.*label-map"
    ):
        missing_classes(examined)
    rules = LabelRules(ignore_index=254, label_map={"0": "background", "255": "road"})
    assert missing_classes(examine_label_maps(read(scenes, rules)[0], Problems())) is None


def test_a_class_without_a_pixel_is_named(scenes: Path) -> None:
    (scenes / "classes.txt").write_text("sky\nground\nbox\ntree\n")
    line = missing_classes(examine_label_maps(read(scenes)[0], Problems()))
    assert line is not None
    assert line.startswith("no pixel of tree; ignored: 9 (1.7 % of the pixels)")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not JSON"), ("[]", "expected an object"), ('{"x": 0}', "'x' is no number"), ('{"1": "c"}', "'c'")],
)
def test_a_senseless_map_of_numbers(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        class_table(["a", "b"], LabelRules.read(255, False, path))


def test_ade20ks_layout(scenes: Path) -> None:
    for kind in ("images", "annotations"):
        (scenes / kind / "train").rename(scenes / kind / "training")
        (scenes / kind / "val").rename(scenes / kind / "validation")
    (scenes / "classes.txt").unlink()
    rows = ["Idx\tRatio\tTrain\tVal\tName", "1\t0.1\t9\t9\tsky", "2\t0.1\t9\t9\tground, earth"]
    (scenes / "objectInfo150.txt").write_text("\n".join(rows))
    train, val, _ = read(scenes, LabelRules(9, True))
    assert (len(train), len(val)) == (8, 3)
    assert train.classes == ("sky", "ground")
    _, labels = train.open(0)
    assert set(np.unique(labels)) == {IGNORED, 0, 1}


def test_without_splits_a_fraction_is_held_out(scenes: Path) -> None:
    for kind in ("images", "annotations"):
        for path in (scenes / kind / "train").iterdir():
            path.rename(scenes / kind / path.name)
        for split in ("train", "val"):
            for path in (scenes / kind / split).iterdir():
                path.unlink()
            (scenes / kind / split).rmdir()
    parts = read_label_maps(scenes, LabelRules(9)).parts
    train, val, _ = divide_images("D", parts, HoldOut(0.3))
    assert list(parts) == [""]
    assert len(train) + len(val) == 8
    assert len(val) >= 1
    assert not {i.file for i in train.images} & {i.file for i in val.images}


def test_palettes_and_sixteen_bits_are_numbers_and_colours_are_refused(tmp_path: Path) -> None:
    numbers = np.array([[0, 1], [2, 200]], dtype=np.uint8)
    picture = Image.fromarray(numbers)
    picture.putpalette([n for i in range(256) for n in (i, 255 - i, 7)])
    assert picture.mode == "P"
    picture.save(tmp_path / "palette.png")
    assert np.array_equal(read_map(tmp_path / "palette.png"), numbers)
    Image.fromarray(numbers.astype(np.uint16) * 300).save(tmp_path / "deep.png")
    assert np.array_equal(read_map(tmp_path / "deep.png"), numbers.astype(np.uint16) * 300)
    picture.convert("RGB").save(tmp_path / "colours.png")
    with pytest.raises(ImageError, match=r"colours \(RGB\), not class numbers; save it as a grey or palette PNG"):
        read_map(tmp_path / "colours.png")
    noise = np.random.default_rng(0).integers(0, 2**16, (64, 64), dtype=np.uint16)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    with pytest.raises(ImageError, match=r"damaged.png"):
        read_map(tmp_path / "damaged.png")


def test_bad_images_are_left_out_with_the_reason(scenes: Path) -> None:
    (scenes / "annotations" / "train" / "0.png").unlink()
    (scenes / "images" / "train" / "1.png").unlink()
    Image.new("L", (5, 5)).save(scenes / "annotations" / "train" / "2.png")
    Image.new("RGB", (70, 50)).save(scenes / "annotations" / "train" / "3.png")
    (scenes / "images" / "train" / "4.png").write_bytes(b"")
    train, _, faults = read(scenes)
    assert faults.left_out.counts == {"images without a label map": 1, "label maps without an image": 1}
    data, _, _ = examine_label_maps(train, faults)
    assert [int(image.file.stem) for image in data.images] == [5, 6, 7]
    said = "; ".join(faults.lines())
    assert "images that cannot be used: 3" in said
    assert "50×61 pixels, and its label map 5×5" in said
    assert "colours (RGB)" in said


def test_numbers_that_are_no_class_are_counted_and_refused(scenes: Path) -> None:
    train, _, faults = read(scenes, LabelRules())
    with pytest.raises(InputError, match=r"9 \(444 pixels, first in .*0.png\); --ignore-index"):
        examine_label_maps(train, faults)
    with pytest.raises(ImageError, match=r"0.png: numbers that are no class: 9"):
        train.open(0)


def test_maps_without_a_class_are_refused(scenes: Path) -> None:
    for path in (scenes / "annotations" / "train").iterdir():
        with Image.open(path) as labels:
            size = labels.size
        Image.new("L", size, 9).save(path)
    train, _, faults = read(scenes)
    with pytest.raises(InputError, match=r"annotations/train: every pixel is ignored; --ignore-index"):
        examine_label_maps(train, faults)


def test_folders_in_another_layout(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "none")
    (tmp_path / "flat").mkdir()
    with pytest.raises(InputError, match="no folder 'images' in it"):
        read(tmp_path / "flat")
    (scenes / "classes.txt").write_text("\n")
    with pytest.raises(InputError, match="its list of classes is empty"):
        read(scenes)
    (scenes / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"no classes.txt in it"):
        read(scenes)


def test_train_alone_and_parts_by_any_name(scenes: Path) -> None:
    for kind in ("images", "annotations"):
        (scenes / kind / "val").rename(scenes / kind / "Testing")
    assert list(read_label_maps(scenes, LabelRules(9)).parts) == ["train", "test"]
    assert list(read_label_maps(scenes, LabelRules(9), only=("test",)).parts) == ["test"]
    shutil.rmtree(scenes / "images" / "Testing")
    parts = read_label_maps(scenes, LabelRules(9)).parts
    assert (list(parts), len(parts[""])) == ([""], 8)
    assert parts[""].images[0].key == "0.png"
