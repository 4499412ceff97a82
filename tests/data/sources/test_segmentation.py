"""One set of label maps in every layout and form that people have: the same pixels, classes and parts are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from annotating import as_coco, as_cvat, as_labelme, as_yolo, make_truth
from making import make_scenes
from PIL import Image
from vacuous import nonempty

from convnext.data.problems import Problems
from convnext.data.rle import from_mask
from convnext.data.sources.class_lists import find_class_list, parse_class_list
from convnext.data.sources.label_maps import (
    IGNORED,
    LabelRules,
    SegmentationSet,
    examine_label_maps,
    with_model_classes,
)
from convnext.data.sources.segmentation import read_label_maps
from convnext.errors import InputError

COLOURS = {0: (10, 20, 200), 1: (0, 128, 0), 2: (220, 0, 0), 9: (0, 0, 0)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes", train=3, val=2)


def labels_of_all(folder: Path, rules: LabelRules) -> dict[str, dict[str, np.ndarray]]:
    parts, faults = read_label_maps(folder, rules)
    assert not faults.lines()
    return {part: {data.images[n].key: data.open(n)[1] for n in range(len(data))} for part, data in parts.items()}


def moved(scenes: Path, root: Path, name: Callable[[str, str, str], tuple[str, str]]) -> Path:
    """The files at the places that `name` gives, for the part, the stem and the suffix."""
    for part in ("train", "val"):
        for image in (scenes / "images" / part).iterdir():
            for source, target in zip(("images", "annotations"), name(part, image.stem, image.suffix), strict=True):
                (root / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(scenes / source / part / image.name, root / target)
    shutil.copy(scenes / "classes.txt", root)
    return root


LAYOUTS: dict[str, Callable[[str, str, str], tuple[str, str]]] = {
    "other names": lambda part, stem, _: (f"Imgs/{part}/{stem}.png", f"Masks/{part}/{stem}.png"),
    "inside the parts": lambda part, stem, _: (f"{part}/images/{stem}.png", f"{part}/labels/{stem}.png"),
    "trainannot": lambda part, stem, _: (f"{part}/{stem}.png", f"{part}annot/{stem}.png"),
    "train_labels": lambda part, stem, _: (f"{part}/{stem}.png", f"{part}_labels/{stem}_L.png"),
    "_mask": lambda part, stem, _: (f"{part.title()}/{stem}.png", f"{part.title()}/{stem}_mask.png"),
    "cityscapes": lambda part, stem, _: (
        f"leftImg8bit/{part}/aachen/{stem}_leftImg8bit.png",
        f"gtFine/{part}/aachen/{stem}_gtFine_labelIds.png",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, scenes: Path, tmp_path: Path) -> None:
    root = moved(scenes, tmp_path, LAYOUTS[layout])
    expected, found = labels_of_all(scenes, LabelRules(9)), labels_of_all(root, LabelRules(9))
    assert list(found) == ["train", "val"]
    for part, images in nonempty(expected.items()):
        assert [Path(key).stem.split("_")[0] for key in found[part]] == [Path(key).stem for key in images]
        for own, other in zip(images.values(), found[part].values(), strict=True):
            assert np.array_equal(own, other)


def test_masks_beside_their_images_without_parts(scenes: Path, tmp_path: Path) -> None:
    moved(scenes, tmp_path, lambda part, stem, _: (f"{part}-{stem}.png", f"{part}-{stem}_mask.png"))
    assert list(labels_of_all(tmp_path, LabelRules(9))[""]) == [
        "train-0.png", "train-1.png", "train-2.png", "val-0.png", "val-1.png",
    ]  # fmt: skip


def test_vocs_layout_and_lists(scenes: Path, tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    moved(scenes, root, lambda part, stem, _: (f"JPEGImages/{part}-{stem}.png", f"SegmentationClass/{part}-{stem}.png"))
    (root / "classes.txt").unlink()
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for part in ("train", "val"):
        stems = [path.stem for path in (root / "JPEGImages").iterdir() if path.stem.startswith(part)]
        (root / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\r\n".join(stems))
    parts = read_label_maps(tmp_path, LabelRules()).parts
    assert {part: len(data) for part, data in parts.items()} == {"train": 3, "val": 2}
    assert parts["train"].classes[:2] == ("background", "aeroplane")
    assert parts["train"].open(0)[1].max() == 9  # a boat, by VOC's own numbers


def test_classes_of_published_sets(scenes: Path, tmp_path: Path) -> None:
    camvid = moved(scenes, tmp_path / "camvid", LAYOUTS["trainannot"])
    (camvid / "classes.txt").unlink()
    for path in camvid.rglob("*annot/*.png"):
        numbers = np.asarray(Image.open(path))
        Image.fromarray(np.where(numbers == 9, 11, numbers).astype(np.uint8)).save(path)
    data = read_label_maps(camvid, LabelRules()).parts["train"]
    assert data.classes[:3] == ("sky", "building", "pole")
    assert set(np.unique(data.open(0)[1])) == {IGNORED, 0, 1, 2}
    streets = moved(scenes, tmp_path / "cityscapes", LAYOUTS["cityscapes"])
    (streets / "classes.txt").unlink()
    for path in streets.rglob("*labelIds.png"):
        numbers = np.asarray(Image.open(path))
        Image.fromarray(np.array([23, 7, 26, 0], np.uint8)[np.where(numbers == 9, 3, numbers)]).save(path)
    data = read_label_maps(streets, LabelRules()).parts["train"]
    assert {data.classes[n] for n in np.unique(data.open(0)[1]) if n >= 0} == {"sky", "road", "car"}


def coloured(root: Path) -> None:
    for path in (root / "annotations").rglob("*.png"):
        numbers = np.asarray(Image.open(path))
        pixels = np.zeros((*numbers.shape, 3), dtype=np.uint8)
        for number, colour in COLOURS.items():
            pixels[numbers == number] = colour
        Image.fromarray(pixels).save(path)


LISTS = {
    "classes.txt": "10 20 200 sky\r\n0 128 0\tground\r\n220 0 0 box\r\n0 0 0 void\r\n",
    "class_dict.csv": "\ufeffname,r,g,b\nsky,10,20,200\nground,0,128,0\nbox,220,0,0\nVoid,0,0,0\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:10,20,200::\nground:0,128,0::\nbox:220,0,0::\nvoid:0,0,0::\n",
    "label_colors.txt": "#0a14c8 sky\n#008000 ground\n#dc0000 box\n#000000 void\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_colours_are_classes(name: str, scenes: Path, tmp_path: Path) -> None:
    root = shutil.copytree(scenes, tmp_path / "data")
    coloured(root)
    (root / "classes.txt").unlink()
    (root / name).write_text(LISTS[name])
    expected, found = labels_of_all(scenes, LabelRules(9)), labels_of_all(root, LabelRules())
    assert read_label_maps(root, LabelRules()).parts["train"].classes == ("sky", "ground", "box")
    for part, images in nonempty(expected.items()):
        assert all(np.array_equal(labels, found[part][key]) for key, labels in nonempty(images.items()))


def test_classes_by_colour_and_of_published_sets_do_not_count_from_1(scenes: Path, tmp_path: Path) -> None:
    """ADE20K's recipes say that numbers do, and a model that was trained by them."""
    root = shutil.copytree(scenes, tmp_path / "data")
    coloured(root)
    (root / "classes.txt").write_text(LISTS["classes.txt"])
    camvid = moved(scenes, tmp_path / "camvid", LAYOUTS["trainannot"])
    (camvid / "classes.txt").unlink()
    for path in camvid.rglob("*annot/*.png"):
        numbers = np.asarray(Image.open(path))
        Image.fromarray(np.where(numbers == 9, 11, numbers).astype(np.uint8)).save(path)
    for data in (root, camvid):
        expected = labels_of_all(data, LabelRules())
        found = labels_of_all(data, LabelRules(reduce_zero_label=True))
        for part, images in nonempty(expected.items()):
            assert all(np.array_equal(labels, found[part][key]) for key, labels in nonempty(images.items()))


def test_images_of_one_name_are_said(scenes: Path, tmp_path: Path) -> None:
    """They have one label map, which belongs to one of them."""
    root = shutil.copytree(scenes, tmp_path / "data")
    first = read_label_maps(root, LabelRules()).parts["train"].images[0].file
    other = first.with_suffix(".bmp")
    Image.new("RGB", (4, 4)).save(other)
    parts, faults = read_label_maps(root, LabelRules())
    assert len({image.map for image in parts["train"].images}) == len(parts["train"].images)
    assert faults.lines() == [
        f"images that have the name of another but for the suffix: 1 ({first.with_suffix('.bmp')})"
    ]


def test_a_colour_that_is_no_class_is_named(scenes: Path, tmp_path: Path) -> None:
    root = shutil.copytree(scenes, tmp_path / "data")
    coloured(root)
    (root / "classes.txt").write_text("10 20 200 sky\n0 128 0 ground\n220 0 0 box\n")
    data = read_label_maps(root, LabelRules()).parts["train"]
    with pytest.raises(InputError, match=r"none of the 3 classes: #000000 \(172 pixels, first in"):
        examine_label_maps(data, Problems())


def test_lists_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for lines, said in (
        (("1 2 3 a", "1 2 3 b"), "#010203 stands for two classes"),
        (("1 2 3 a", "b", "4 5 6 c"), "'b' has no colour"),
        (("1 2 300 a", "1 2 3 b"), "has no colour from 0 to 255"),
        (("sky", "tree", "tree"), "class name tree appears twice"),
    ):
        with pytest.raises(InputError, match=said):
            parse_class_list(lines, tmp_path)
    assert parse_class_list(("sky", "route 66", "box 1 2"), tmp_path).colours is None
    assert find_class_list(tmp_path) is None


@pytest.mark.parametrize("write", [as_coco, as_yolo, as_labelme, as_cvat])
def test_outlines_are_drawn_as_label_maps(write: Callable, tmp_path: Path) -> None:
    objects = make_truth(tmp_path / "native")
    write(tmp_path / "data", objects, **({} if write is as_coco else {"polygons": True}))
    found = read_label_maps(tmp_path / "data", LabelRules())
    native = read_label_maps(tmp_path / "data", LabelRules(0)).parts["val"]
    assert not found.faults.lines()
    val = found.parts["val"]
    assert val.classes == ("background", *native.classes)
    assert set(val.classes) == {"background", "square", "circle"}
    truth = {image.key: image for image in objects["val"].images}
    for place, image in nonempty(enumerate(val.images)):
        labels, other = val.open(place)[1], native.open(place)[1]
        assert np.array_equal(np.where(labels == 0, IGNORED, labels - 1), other)
        wrong = []
        for each in truth[image.key].annotations:
            x0, y0, x1, y1 = (round(side) for side in each.box)
            if val.classes[labels[(y0 + y1) // 2, (x0 + x1) // 2]] != objects["val"].classes[each.label]:
                wrong.append(each)
        assert wrong == []
        covered = sum(each.area for each in truth[image.key].annotations)
        assert (labels > 0).sum() <= 1.1 * covered


def test_a_drawn_map_is_the_mask_to_the_pixel(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    small = np.zeros((20, 30), bool)
    small[5:9, 5:9] = True
    rows = [
        {"id": n, "image_id": 1, "category_id": n, "segmentation": from_mask(m), "area": int(m.sum())}
        for n, m in ((1, small), (2, mask))
    ]
    content = {"images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}], "annotations": rows}
    categories = [{"id": 1, "name": "small"}, {"id": 2, "name": "_background_"}]
    (tmp_path / "any.json").write_text(json.dumps({**content, "categories": categories}))
    data = read_label_maps(tmp_path, LabelRules()).parts[""]
    assert data.classes == ("small", "_background_")
    assert np.array_equal(data.open(0)[1], np.where(small, 0, 1))


def test_boxes_alone_are_no_label_maps(tmp_path: Path) -> None:
    as_yolo(tmp_path / "data", make_truth(tmp_path / "native"))
    with pytest.raises(InputError, match="no outlines, but boxes alone"):
        read_label_maps(tmp_path / "data", LabelRules())


def test_an_object_without_outline_is_no_background(tmp_path: Path) -> None:
    as_yolo(tmp_path / "data", make_truth(tmp_path / "native"), polygons=True)
    file = next((tmp_path / "data" / "labels" / "train").glob("*5.txt"))
    file.write_text(file.read_text() + "\n0 0.5 0.5 0.1 0.1")
    found = read_label_maps(tmp_path / "data", LabelRules())
    assert [len(data.images) for data in found.parts.values()] == [5, 3]
    assert found.faults.lines()[0].startswith("images with an object without outline: 1 (")


def test_camvid_as_published_is_camvid(real_images: Path, tmp_path: Path) -> None:
    """SegNet's copy: no list of classes, label maps in folders beside those of the images."""
    native = read_label_maps(real_images / "camvid", LabelRules(11)).parts
    for part, data in native.items():
        for image in data.images:
            for source, target in ((image.file, part), (image.map, f"{part}annot")):
                (tmp_path / target).mkdir(exist_ok=True)
                (tmp_path / target / source.name).symlink_to(source)
    found = read_label_maps(tmp_path, LabelRules()).parts
    for part, data in nonempty(native.items()):
        assert [image.key for image in found[part].images] == [image.key for image in data.images]
        assert all(np.array_equal(found[part].open(n)[1], data.open(n)[1]) for n in range(0, len(data), 40))
    assert [name.lower() for name in native["train"].classes][:2] == list(found["train"].classes[:2])


def test_classes_of_a_model_are_matched_by_name(scenes: Path) -> None:
    data = read_label_maps(scenes, LabelRules(9)).parts["val"]
    matched, other = with_model_classes(data, ["box", "tree", "sky"], "data")
    assert other == ["ground"]
    own, theirs = data.open(0)[1], matched.open(0)[1]
    assert np.array_equal(theirs, np.array([2, IGNORED, 0, IGNORED])[own])
    assert isinstance(matched, SegmentationSet)
    with pytest.raises(InputError, match="its classes are not the model's"):
        with_model_classes(data, ["a", "b"], "data")
