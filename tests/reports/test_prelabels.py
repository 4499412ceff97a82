"""Answers as annotation programs import them: read back, they are what was answered."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from annotating import Parts, make_truth
from making import FAST_DETECT, fails, make_objects
from PIL import Image
from pycocotools.coco import COCO
from vacuous import nonempty

from convnext import cli
from convnext.data.image_set import read_split
from convnext.data.rle import from_mask, to_masks
from convnext.data.sources.detection import read_annotated
from convnext.errors import InputError
from convnext.reports.prelabels import PredictedImage, check_image_names, mask_polygons, write_classes, write_objects


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_truth(tmp_path_factory.mktemp("truth") / "native", train=4)


def answers(truth: Parts, *, masks: bool) -> list[PredictedImage]:
    data = truth["train"]
    found = []
    for image in data.images:
        rows = []
        for a in image.annotations:
            x0, y0, x1, y1 = a.box
            row = {"category": data.classes[a.label], "score": 0.75, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            if masks:
                row["segmentation"] = from_mask(to_masks([a.outline], image.width, image.height)[0].numpy())
            rows.append(row)
        found.append(PredictedImage(str(image.file), image.width, image.height, rows))
    return found


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "labelme"])
def test_what_is_written_is_read(form: str, masks: bool, truth: Parts, tmp_path: Path) -> None:
    write_objects(form, tmp_path, truth["train"].classes, answers(truth, masks=masks))
    (tmp_path / "images").mkdir()
    for image in truth["train"].images:
        os.link(image.file, tmp_path / "images" / image.key)
    found = read_annotated(tmp_path)
    assert not found.faults.lines()
    read = {image.key.removeprefix("images/"): image for image in found.parts[""].images}
    assert sorted(read) == sorted(image.key for image in truth["train"].images)
    pairs = []
    for image in truth["train"].images:
        ours = {truth["train"].classes[a.label]: a for a in image.annotations}
        theirs = {found.parts[""].classes[a.label]: a for a in read[image.key].annotations}
        assert ours.keys() == theirs.keys()
        pairs += [(image, a, theirs[name]) for name, a in ours.items()]
    for image, a, b in nonempty(pairs):
        assert b.box == pytest.approx(a.box, abs=1.01)
        if masks and form != "voc":
            own, other = (to_masks([each.outline], image.width, image.height) for each in (a, b))
            assert (own & other).sum() >= 0.9 * (own | other).sum()


def test_outlines_of_masks() -> None:
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[5:15, 4:20] = 1
    mask[8:10, 8:12] = 0  # a hole
    mask[0:2, 27:30] = 1
    polygons = mask_polygons(mask)
    assert len(polygons) == 2
    assert (min(polygons[0][::2]), max(polygons[0][::2]), min(polygons[0][1::2])) == (4, 20, 5)
    drawn = to_masks([polygons], 30, 20)[0].numpy()
    assert (drawn != mask).sum() <= 8 + 8  # the hole, and corners
    assert mask_polygons(np.zeros((4, 4))) == []


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_of_objects_and_labels(form: str, truth: Parts, tmp_path: Path) -> None:
    write_objects(form, tmp_path / "o", truth["train"].classes, answers(truth, masks=False))
    if form == "parquet":
        rows = pq.read_table(tmp_path / "o" / "objects.parquet").to_pylist()
        assert {row["class"] for row in rows} == {"square", "circle"}
        assert len(rows) == sum(len(image.annotations) for image in truth["train"].images)
        assert ((tmp_path / "o") / rows[0]["path"]).is_file()
    files = [str(image.file) for image in truth["train"].images]
    write_classes(form, tmp_path / "c", [(file, "ab"[n % 2], 0.5) for n, file in enumerate(files)])
    data = read_split(tmp_path / "c" / f"labels.{form}", "all")
    assert [os.path.realpath(source) for source in data.sources] == [os.path.realpath(file) for file in files]
    assert [data.classes[label] for label in data.targets] == list("abab")
    with pytest.raises(InputError, match="csv or parquet"):
        write_classes("coco", tmp_path, [])


def test_images_of_one_name_in_two_folders_keep_their_own(tmp_path: Path) -> None:
    images = []
    for number, folder in enumerate("ab"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        path = tmp_path / "in" / folder / "x.png"
        Image.new("RGB", (20, 10)).save(path)
        row = {"category": "c", "score": 1.0, "bbox": [number + 1, 2, 5, 5]}
        images.append(PredictedImage(str(path), 20, 10, [row]))
    write_objects("yolo", tmp_path / "out", ["c"], images)
    (tmp_path / "in").rename(tmp_path / "out" / "images")
    read = read_annotated(tmp_path / "out").parts[""].images
    assert [round(image.annotations[0].box[0]) for image in read] == [1, 2]


@pytest.mark.parametrize("form", ["yolo", "voc", "labelme"])
def test_images_that_would_share_a_file_are_refused(form: str) -> None:
    with pytest.raises(InputError, match=r"one file for both in/x.png and in/x.jpg"):
        check_image_names(form, ["in/x.png", "in/y.png", "in/x.jpg"])
    check_image_names(form, ["in/a/x.png", "in/b/x.jpg"])
    check_image_names("coco", ["in/x.png", "in/x.jpg"])


def test_predict_writes_them(run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "labels"
    assert cli.main(["predict", str(run), str(colours / "val"), "--out", str(out), "--format", "csv"]) == 0
    assert len(read_split(out / "labels.csv", "all")) == 12
    assert "both" in fails(capsys, "predict", run, colours / "val", "--out", out)
    assert "csv or parquet" in fails(capsys, "predict", run, colours / "val", "--out", out, "--format", "coco")


def test_a_detector_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_objects(tmp_path / "data", train=4, val=3)
    images = make_objects(tmp_path / "new", train=1, val=3) / "val"
    command = ["train", "detect", str(data), "--out", str(tmp_path / "run"), *FAST_DETECT, "--epochs", "1"]
    assert cli.main([*command, "--model", "convnextv2_atto"]) == 0
    assert "--out FOLDER says" in fails(capsys, "predict", tmp_path / "run", images, "--format", "coco")
    out = ["--out", str(tmp_path / "set"), "--format", "coco", "--threshold", "0"]
    assert cli.main(["predict", str(tmp_path / "run"), str(images), *out]) == 0
    images.rename(tmp_path / "set" / "images")
    assert len(read_annotated(tmp_path / "set").parts[""]) == 3
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["annotations.json", "images"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # raised inside pycocotools
def test_pycocotools_reads_the_same_objects(truth: Parts, tmp_path: Path) -> None:
    data = truth["train"]
    written = answers(truth, masks=True)
    write_objects("coco", tmp_path, data.classes, written)
    coco = COCO(str(tmp_path / "annotations.json"))
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == list(data.classes)
    assert len(coco.anns) == sum(len(image.rows) for image in written) > 0
    for image, row in zip(written, coco.imgs.values(), strict=True):
        assert (row["file_name"], row["width"], row["height"]) == (Path(image.path).name, image.width, image.height)
        for ours, theirs in zip(image.rows, coco.loadAnns(coco.getAnnIds(row["id"])), strict=True):
            assert coco.cats[theirs["category_id"]]["name"] == ours["category"]
            assert (theirs["bbox"], theirs["score"]) == (ours["bbox"], ours["score"])
            mask = to_masks([ours["segmentation"]], image.width, image.height)[0].numpy()
            assert np.array_equal(coco.annToMask(theirs), mask)
