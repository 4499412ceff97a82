"""Images with objects, packed into shards: what the folder held, to the last bit, and the same losses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset
from annotating import BOXES, Parts, as_coco, make_truth
from making import FAST_DETECT, FINDING, change_column, evaluated, fails, make_objects
from PIL import Image
from vacuous import nonempty

from convnext import cli
from convnext.data.copies import count_copies
from convnext.data.fingerprint import of_annotated
from convnext.data.shards.pack import pack_shards
from convnext.data.shards.pack_objects import pack_objects
from convnext.data.shards.write import unique_names
from convnext.data.sources.annotated import AnnotatedImage
from convnext.data.sources.detection import read_annotated
from convnext.data.sources.label_maps import LabelRules
from convnext.data.sources.listing import read_listing
from convnext.data.sources.segmentation import read_label_maps
from convnext.errors import InputError
from convnext.runs.directory import Run
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.data import open_annotated
from convnext.tasks.detect.read import read_detection_data
from convnext.weights import read_meta

RLE = {"size": [64, 48], "counts": [100, 200, 64 * 48 - 300]}


def packed(data: Path, out: Path, **options: Any) -> Path:
    pack_objects(str(data), out, **{"shard_bytes": 30_000, **options})
    return out


def said_of(image: AnnotatedImage) -> tuple[Any, ...]:
    """Everything that is known of an image but where it lies, and its pixels."""
    known = replace(image, file=Path())
    return known, open_annotated(image).tobytes()


def assert_equal(found: Parts, truth: Parts) -> None:
    assert list(found) == list(truth)
    for part, data in nonempty(truth.items()):
        assert (found[part].classes, found[part].category_ids) == (data.classes, data.category_ids)
        assert [said_of(image) for image in found[part].images] == [said_of(image) for image in data.images]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Objects with crowds, run lengths, odd boxes, ids of a class without an object, and what has to be left out."""
    root = make_objects(tmp_path / "data")
    path = root / "train.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 70, "name": "never seen"})
    first, second, third, *_ = content["annotations"]
    first |= {"bbox": [0.1, 0.3, 19.300000000000001, 21.9], "area": 77.7}
    second |= {"iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [5, 90, 48 * 64 - 95]}}
    third |= {"bbox": [5, 5, 0, 0], "segmentation": []}
    content["annotations"] += [{"id": 900, "image_id": 1, "category_id": 20, "bbox": [3, 4, 5, 6], "segmentation": RLE}]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 6]
    path.write_text(json.dumps(content))
    return root


def test_shards_hold_what_the_folder_held(folder: Path, tmp_path: Path) -> None:
    truth = read_annotated(folder).parts
    images = truth["train"].images
    assert sum(image.left_out for image in images) == 1
    assert sum(a.crowd for image in images for a in image.annotations) == 1
    assert any(not image.annotations for image in images)
    shards = packed(folder, tmp_path / "shards")
    assert len(list(shards.glob("train-*.tar"))) > 1
    assert_equal(dict(read_annotated(shards).parts), dict(truth))
    assert (
        packed(folder, tmp_path / "again").joinpath("shards.json").read_bytes() == (shards / "shards.json").read_bytes()
    )


@pytest.mark.parametrize("write", BOXES.values(), ids=list(BOXES))
def test_every_form_is_packed(write: Callable[[Path, Parts], None], tmp_path: Path) -> None:
    write(tmp_path / "data", make_truth(tmp_path / "truth", train=3, val=2))
    assert_equal(
        dict(read_annotated(packed(tmp_path / "data", tmp_path / "shards")).parts),
        dict(read_annotated(tmp_path / "data").parts),
    )


def test_what_is_undivided_stays_so(tmp_path: Path) -> None:
    """Which images a run holds out is the same as of the folder, by their names."""
    as_coco(tmp_path / "data", {"": make_truth(tmp_path / "truth")["train"]})
    shards = packed(tmp_path / "data", tmp_path / "shards")
    assert list(read_annotated(shards).parts) == [""]
    runs = []
    for name in ("data", "shards"):
        runs.append(tmp_path / f"run-{name}")
        run = ["--out", str(runs[-1]), *FAST_DETECT, "--epochs", "1", "--val-fraction", "0.4"]
        assert cli.main(["train", "detect", str(tmp_path / name), *run]) == 0
    assert read_meta(runs[0])["origin"] == read_meta(runs[1])["origin"]
    assert [row["loss"] for row in nonempty(Run(runs[0]).rows())] == [row["loss"] for row in Run(runs[1]).rows()]


def test_training_and_measuring_are_those_of_the_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shards = packed(folder, tmp_path / "shards")
    for name, data, workers in (("a", folder, "0"), ("b", shards, "2")):
        options = [*FAST_DETECT, *FINDING, "--epochs", "2", "--workers", workers, "--out", str(tmp_path / name)]
        assert cli.main(["train", "detect", str(data), *options]) == 0
    ours, theirs = (Run(tmp_path / name).rows() for name in "ab")
    assert [row["loss"] for row in nonempty(ours)] == [row["loss"] for row in theirs]
    assert evaluated(capsys, tmp_path / "a", shards) == evaluated(capsys, tmp_path / "a", folder)
    assert cli.main(["train", "detect", str(shards), "--check", "--out", str(tmp_path / "none")]) == 0
    capsys.readouterr()
    assert cli.main(["check", str(shards), "--json"]) in (0, 1)
    mine = json.loads(capsys.readouterr().out)
    cli.main(["check", str(folder), "--json"])
    assert mine["found"] == json.loads(capsys.readouterr().out)["found"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves it so
def test_webdataset_reads_them(folder: Path, tmp_path: Path) -> None:
    shards = packed(folder, tmp_path / "shards")
    val = {str(image.file).partition(".tar/")[2]: image for image in read_annotated(shards).parts["val"].images}
    files = sorted(str(path) for path in shards.glob("val-*.tar"))
    read = list(
        webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode("pil").to_tuple("png", "json")
    )
    assert len(nonempty(read)) == len(val)
    for pixels, said in read:
        image = val[said["file_name"]]
        assert pixels.size == (said["width"], said["height"]) == (image.width, image.height)
        for row, each in zip(nonempty(said["annotations"]), image.annotations, strict=True):
            x, y, width, height = row["bbox"]
            assert (row["category"] in ("square", "circle"), (x, y, x + width, y + height)) == (True, each.box)


def test_crops_and_outlines_of_shards(folder: Path, tmp_path: Path) -> None:
    """Boxes are classified, and outlines drawn, as those of the folder."""
    shards = packed(folder, tmp_path / "shards")
    ours, theirs = (read_listing(data, None, False, form) for data, form in ((shards, "shards"), (folder, "coco")))
    assert [entry.labels for entry in nonempty(ours.entries)] == [entry.labels for entry in theirs.entries]
    assert ours.members is not None
    assert theirs.members is not None
    assert [ours.members.read(n) for n in range(5)] == [theirs.members.read(n) for n in range(5)]
    drawn, truth = (read_label_maps(data, LabelRules()).parts["val"] for data in (shards, folder))
    assert drawn.classes == truth.classes
    for place in nonempty(range(len(truth))):
        assert (drawn.open(place)[1] == truth.open(place)[1]).all()


def test_images_are_left_out(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "exclude.txt").write_text("train/1.png\n")
    (folder / "train" / "2.png").write_bytes(b"no image")
    out = tmp_path / "shards"
    command = ["pack", str(folder), "--task", "detect", "--exclude", str(tmp_path / "exclude.txt"), "--out", str(out)]
    assert cli.main(command) == 1
    assert "train/2.png: not an image" in capsys.readouterr().err
    assert [image.key for image in read_annotated(out).parts["train"].images] == ["0.png", "3.png", "4.png", "5.png"]
    shards = packed(folder, tmp_path / "all")
    (tmp_path / "exclude.txt").write_text("train/1.png\nval/0.png\n")
    found = read_detection_data(DetectConfig(data=str(shards), exclude=str(tmp_path / "exclude.txt")))
    assert [image.key for image in found.train.images] == ["0.png", "3.png", "4.png", "5.png"]
    assert [image.key for image in found.val.images] == ["1.png", "2.png"]


def test_copies_in_shards_are_counted_and_others_told_apart(tmp_path: Path) -> None:
    root = make_objects(tmp_path / "data")
    (root / "val" / "0.png").write_bytes((root / "train" / "0.png").read_bytes())
    one = read_annotated(packed(root, tmp_path / "shards")).parts
    assert count_copies(str(tmp_path / "shards"), one["train"], one["val"], seconds=60) == 1
    Image.effect_noise((48, 64), 60).convert("RGB").save(root / "train" / "2.png")
    other = read_annotated(packed(root, tmp_path / "others")).parts
    before, after = (of_annotated(str(tmp_path / n), p["train"]) for n, p in (("shards", one), ("others", other)))
    assert before["classes"] == after["classes"]
    assert before["digest"] != after["digest"]


def test_what_is_wrong_is_a_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shards = packed(folder, tmp_path / "shards")

    def detecting(data: object) -> str:
        return fails(capsys, "train", "detect", data, "--out", tmp_path / "run", *FAST_DETECT)

    classifying = fails(capsys, "train", "classify", shards, "--out", tmp_path / "run")
    assert "shards of images with objects, which `convnext train detect` takes" in classifying
    assert "is packed already" in fails(capsys, "pack", shards, "--task", "detect", "--out", tmp_path / "new")
    assert "is packed already" in fails(capsys, "pack", shards, "--out", tmp_path / "new")
    assert "--short-side is of images with classes" in fails(
        capsys, "pack", folder, "--task", "detect", "--short-side", 20, "--out", tmp_path / "new"
    )
    assert "--shard-mb must be at least 1" in fails(
        capsys, "pack", folder, "--task", "detect", "--shard-mb", 0, "--out", tmp_path / "new"
    )
    assert "fetch the folder" in detecting("http://127.0.0.1:9/shards")
    pack_shards(str(folder / "val"), tmp_path / "images", shard_bytes=10**6, labels=False)
    assert "shards of images with classes, or without labels" in detecting(tmp_path / "images")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("name", lambda name: "../secret.png"),
        ("name", lambda name: "/etc/passwd"),
        ("name", lambda name: ""),
        ("name", lambda name: "train/1.png"),
        ("key", lambda key: None),
        ("objects", lambda said: "{"),
        ("objects", lambda said: "[1]"),
        ("objects", lambda said: None),
        ("objects", lambda said: json.dumps({**json.loads(said), "width": 2**31 - 1})),
        ("objects", lambda said: json.dumps({**json.loads(said), "left_out": -1})),
        ("objects", lambda said: said.replace('"square"', '"dog"').replace('"circle"', '"dog"')),
        (
            "objects",
            lambda said: json.dumps({**json.loads(said), "annotations": [{"category": "square", "bbox": [1]}]}),
        ),
    ],
)
def test_a_damaged_index_is_a_line(
    column: str, change: Callable[[Any], Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shards = packed(folder, tmp_path / "shards")
    change_column(shards, column, change)
    assert "the index cannot be read" in fails(capsys, "check", shards)


def test_a_shard_that_ends_early_or_vanishes(folder: Path, tmp_path: Path) -> None:
    shards = packed(folder, tmp_path / "shards")
    images = read_annotated(shards).parts["train"].images
    tar = shards / "train-000001.tar"
    lost = next(image for image in images if tar in image.file.parents)
    content = tar.read_bytes()
    tar.write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"train-000001.tar has 1000 bytes, and \d+ by the index"):
        read_annotated(shards)
    with pytest.raises(InputError, match=r"train-000001.tar ends after \d+ bytes"):
        open_annotated(lost)


def test_a_test_part_gets_the_classes_of_train(tmp_path: Path) -> None:
    """As in measuring: what its own classes are decides nothing, nor keeps the data from being packed."""
    truth = make_truth(tmp_path / "truth", train=3, val=4)
    odd = replace(truth["val"], classes=("square", "triangle"))

    def renamed(image: AnnotatedImage) -> AnnotatedImage:
        return replace(image, key=f"test-{image.key}")

    as_coco(tmp_path / "parts", {**truth, "test": replace(odd, images=tuple(map(renamed, odd.images)))})
    shards = packed(tmp_path / "parts", tmp_path / "shards")
    found = read_annotated(shards).parts
    assert list(found) == ["train", "val", "test"]
    assert found["test"].classes == found["train"].classes == truth["train"].classes
    assert all(a.label == 0 for image in nonempty(found["test"].images) for a in image.annotations)
    assert sum(image.left_out for image in found["test"].images) > 0


def test_names_are_told_apart_below_the_shards(tmp_path: Path) -> None:
    """Links, folders above, and names that are no text."""
    root = tmp_path / "a"
    sources = [root / "1.png", tmp_path / "1.png", root / "1.png", root / ".." / "1.png", root / "ü\udcff.png"]
    names = unique_names([str(source) for source in sources], root)
    below = str(tmp_path).removeprefix("/")
    assert names == ["1.png", f"{below}/1.png", "1-2.png", "1-3.png", "ü�.png"]
