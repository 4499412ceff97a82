"""Images with label maps, packed into shards: the same classes for every pixel by every rule, and the same losses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from annotating import as_coco, as_panoptic, as_yolo, make_truth
from making import FAST_SEGMENT, change_column, evaluated, fails, make_scenes
from PIL import Image
from vacuous import nonempty

from convnext import cli
from convnext.data.fingerprint import of_maps
from convnext.data.shards.pack_maps import pack_maps
from convnext.data.sources.label_maps import LabelRules, SegmentationSet
from convnext.data.sources.segmentation import read_label_maps
from convnext.errors import ImageError, InputError
from convnext.runs.directory import Run

RULES = (
    LabelRules(),
    LabelRules(ignore_index=9),
    LabelRules(ignore_index=0),
    LabelRules(reduce_zero_label=True),
    LabelRules(label_map={"0": 0, "1": None, "2": 1, "9": None}),
)
"""Meanings of numbers that a training may be given."""


def packed(data: Path, out: Path, **options: Any) -> Path:
    pack_maps(str(data), out, **{"shard_bytes": 30_000, **options})
    return out


def opened(part: SegmentationSet, place: int) -> tuple[bytes, list[Any]] | str:
    """The pixels of an image and their classes, or how its label map is refused."""
    try:
        picture, labels = part.open(place)
    except ImageError as error:
        return str(error).partition(": ")[2]
    return picture.tobytes(), labels.tolist()


def assert_equal(shards: Path, folder: Path, rules: LabelRules) -> None:
    found, truth = (read_label_maps(data, rules).parts for data in (shards, folder))
    assert list(found) == list(truth)
    for part, data in nonempty(truth.items()):
        assert found[part].classes == data.classes
        assert [image.key for image in found[part].images] == [image.key for image in data.images]
        for place in nonempty(range(len(data))):
            assert opened(found[part], place) == opened(data, place)


def as_colours(root: Path) -> None:
    """The label maps of `make_scenes` as pictures of colours: a fourth of no class, which is ignored."""
    colours = np.zeros((10, 3), dtype=np.uint8)
    colours[[0, 1, 2, 9]] = [(1, 2, 3), (200, 9, 9), (0, 255, 0), (7, 7, 7)]
    for path in (root / "annotations").rglob("*.png"):
        with Image.open(path) as image:
            numbers = np.asarray(image)
        Image.fromarray(colours[numbers]).save(path)
    (root / "classes.txt").write_text("1 2 3 sky\n200 9 9 ground\n0 255 0 box\n7 7 7 void\n")


def as_sixteen_bits(root: Path) -> None:
    for path in (root / "annotations").rglob("*.png"):
        with Image.open(path) as image:
            numbers = np.asarray(image).astype(np.uint16)
        numbers[-1] = 40_000
        Image.fromarray(numbers).save(path)


def scenes(root: Path) -> Path:
    return make_scenes(root, train=4, val=2)


def coloured(root: Path) -> Path:
    as_colours(scenes(root))
    return root


def deep(root: Path) -> Path:
    as_sixteen_bits(scenes(root))
    return root


def panoptic(root: Path) -> Path:
    as_panoptic(root, scenes(root.with_name("scenes")))
    return root


def outlines(root: Path) -> Path:
    as_yolo(root, make_truth(root.with_name("truth"), train=3, val=2), polygons=True)
    return root


def camvid(root: Path) -> Path:
    """CamVid's folders, whose classes and ignored number are known."""
    made = scenes(root.with_name("scenes"))
    for part in ("train", "val"):
        for kind, name in (("images", part), ("annotations", f"{part}annot")):
            (root / name).parent.mkdir(exist_ok=True)
            (made / kind / part).rename(root / name)
    for path in root.rglob("*annot/*.png"):
        with Image.open(path) as image:
            numbers = np.asarray(image)
        Image.fromarray(np.where(numbers == 9, 11, numbers).astype(np.uint8)).save(path)
    return root


@pytest.mark.parametrize("make", [scenes, coloured, deep, panoptic, outlines, camvid])
def test_every_form_is_packed(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    shards = packed(folder, tmp_path / "shards")
    for rules in RULES:
        assert_equal(shards, folder, rules)
    assert (
        packed(folder, tmp_path / "again").joinpath("shards.json").read_bytes() == (shards / "shards.json").read_bytes()
    )


def test_a_class_called_background_is_what_lies_around(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "truth", train=3, val=2)
    as_coco(tmp_path / "data", truth)
    for path in nonempty((tmp_path / "data" / "annotations").iterdir()):
        content = json.loads(path.read_text())
        content["categories"].insert(0, {"id": 77, "name": "Background"})
        path.write_text(json.dumps(content))
    shards = packed(tmp_path / "data", tmp_path / "shards")
    for rules in RULES[:3]:
        assert_equal(shards, tmp_path / "data", rules)


def test_training_and_measuring_are_those_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_scenes(tmp_path / "data")
    shards = packed(folder, tmp_path / "shards")
    assert len(list(shards.glob("train-*.tar"))) > 1
    for name, data, workers in (("a", folder, "0"), ("b", shards, "2")):
        options = [*FAST_SEGMENT, "--workers", workers, "--ignore-index", "9", "--out", str(tmp_path / name)]
        assert cli.main(["train", "segment", str(data), *options]) == 0
    ours, theirs = (Run(tmp_path / name).rows() for name in "ab")
    assert [row["loss"] for row in nonempty(ours)] == [row["loss"] for row in theirs]
    assert evaluated(capsys, tmp_path / "a", shards) == evaluated(capsys, tmp_path / "a", folder)
    checking = ["--set", "ignore_index=9", "--json"]
    found = []
    for data in (shards, folder):
        capsys.readouterr()
        cli.main(["check", str(data), *checking])
        found.append(json.loads(capsys.readouterr().out)["found"])
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves it so
def test_webdataset_reads_them(tmp_path: Path) -> None:
    shards = packed(make_scenes(tmp_path / "data"), tmp_path / "shards")
    files = sorted(str(path) for path in shards.glob("val-*.tar"))
    read = list(
        webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode("pill").to_tuple("png", "seg.png")
    )
    truth = read_label_maps(tmp_path / "data", LabelRules(ignore_index=9)).parts["val"]
    maps = sorted(truth.numbers(image).tobytes() for image in truth.images)
    assert sorted(numbers.tobytes() for _, numbers in nonempty(read)) == maps
    assert all(picture.size == numbers.size for picture, numbers in read)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "data")
    for kind in ("images", "annotations"):
        (folder / kind / "train" / "1.png").rename(folder / kind / "train" / "ü\udcff.png")
    found = read_label_maps(packed(folder, tmp_path / "shards"), LabelRules(ignore_index=9)).parts["train"]
    truth = read_label_maps(folder, LabelRules(ignore_index=9)).parts["train"]
    for place in nonempty(range(len(truth))):
        assert opened(found, place) == opened(truth, place)
    assert sum(image.file.name == "ü\ufffd.png" for image in found.images) == 1


def test_what_cannot_be_packed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_scenes(tmp_path / "data")
    as_colours(folder)
    Image.new("RGB", (50, 61), (1, 2, 4)).save(folder / "annotations" / "train" / "0.png")
    (folder / "annotations" / "train" / "1.png").write_bytes(b"no image")
    Image.new("RGB", (5, 6), (1, 2, 3)).save(folder / "annotations" / "train" / "2.png")
    (folder / "images" / "train" / "3.png").write_bytes(b"no image")
    (tmp_path / "exclude.txt").write_text("images/train/4.png\n")
    command = ["pack", str(folder), "--task", "segment", "--exclude", str(tmp_path / "exclude.txt")]
    assert cli.main([*command, "--out", str(tmp_path / "shards")]) == 1
    said = capsys.readouterr().err
    for name, reason in (
        ("annotations/train/0.png", "colours of no class: #010204"),
        ("annotations/train/1.png", "not an image"),
        ("images/train/2.png", "50×61 pixels, and its label map 5×6"),
        ("images/train/3.png", "not an image"),
    ):
        assert any(name in line and reason in line for line in nonempty(said.splitlines()))
    left = read_label_maps(tmp_path / "shards", LabelRules()).parts["train"].images
    assert [image.key for image in left] == ["5.png", "6.png", "7.png"]


def test_another_map_of_the_same_images_is_another_fingerprint(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "data")
    found = []
    for name in ("a", "b"):
        part = read_label_maps(packed(folder, tmp_path / name), LabelRules()).parts["train"]
        found.append(of_maps(str(tmp_path / name), part)["digest"])
        path = folder / "annotations" / "train" / "1.png"
        Image.effect_noise((70, 50), 90).point(lambda value: value % 3).save(path)
    assert found[0] != found[1]


def test_what_is_wrong_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_scenes(tmp_path / "data")
    shards = packed(folder, tmp_path / "shards")
    for task in ("classify", "detect"):
        said = fails(capsys, "train", task, shards, "--out", tmp_path / "run")
        assert "shards of images with label maps, which `convnext train segment` takes" in said
    assert "is packed already" in fails(capsys, "pack", shards, "--task", "segment", "--out", tmp_path / "new")
    for option in (["--short-side", 20], ["--no-labels"], ["--val-fraction", 0.1]):
        said = fails(capsys, "pack", folder, "--task", "segment", *option, "--out", tmp_path / "new")
        assert f"{option[0]} is of images with classes" in said
    assert "fetch the folder" in fails(capsys, "train", "segment", "http://127.0.0.1:9/s", "--out", tmp_path / "run")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.pop("maps"),
        lambda said: said["maps"].update(source="thin air"),
        lambda said: said["maps"].update(void=70_000),
        lambda said: said["maps"].update(rules={"ignore": 3}),
        lambda said: said["maps"]["rules"].update(ignore_index="x"),
        lambda said: said["maps"]["rules"].update(label_map=[3]),
        lambda said: said["maps"]["rules"].update(label_map={"x": 3}),
        lambda said: said.update(holds="depth"),
        lambda said: said.update(holds=["maps"]),
    ],
)
def test_a_damaged_index_is_a_line(change: Callable[[Any], Any], tmp_path: Path) -> None:
    shards = packed(make_scenes(tmp_path / "data", train=2, val=1), tmp_path / "shards")
    said = json.loads((shards / "shards.json").read_text())
    change(said)
    (shards / "shards.json").write_text(json.dumps(said))
    with pytest.raises(InputError):
        read_label_maps(shards, LabelRules())


@pytest.mark.parametrize(("column", "value"), [("map_offset", -1), ("map_size", 0), ("map_size", 10**9)])
def test_a_map_lies_in_its_shard(column: str, value: int, tmp_path: Path) -> None:
    shards = packed(make_scenes(tmp_path / "data", train=2, val=1), tmp_path / "shards")
    change_column(shards, column, lambda _: value)
    with pytest.raises(InputError, match=r"index cannot be read: the label map of images/train/0\.png lies outside"):
        read_label_maps(shards, LabelRules())
