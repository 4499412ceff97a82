"""`convnext check --labels`: planted faults are named, and what cannot work is refused."""

import json
import shutil
from pathlib import Path

import pytest
from annotating import as_yolo
from making import fails, make_folder, make_objects, make_scenes, rows_of
from sitecustomize import BYTE

import convnext
from convnext import cli
from convnext.data.sources.detection import read_annotated
from convnext.tasks.segment import wrong_labels
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.wrong_labels import problems_of_regions
from convnext.train import wrong_labels as wrong_labels_of_all

QUICK = ("--set", "image_size=32", "--set", "epochs=6", "--set", "batch_size=8", "--set", "muon_lr_scale=none")
QUICK += ("--set", f"model={BYTE}")


@pytest.fixture
def mislabelled(tmp_path: Path) -> Path:
    """Images of one colour each, of which a red one lies among the blue."""
    data = make_folder(tmp_path / "data", train=8, val=4)
    shutil.move(data / "train" / "red" / "3.png", data / "train" / "blue" / "planted.png")
    return data


def suspects(data: Path, out: Path, *options: object, kind: str = "label") -> list[dict[str, str]]:
    assert cli.main(["check", str(data), "--labels", "--workers", "0", "--out", str(out), *map(str, options)]) in (0, 1)
    return [row for row in rows_of(out / "problems.csv") if row["kind"] == kind]


def test_a_wrong_label_is_named_first_by_features_of_given_weights(mislabelled, trained, tmp_path) -> None:
    _, _, run = trained
    found = suspects(mislabelled, tmp_path / "out", "--task", "classify", "--with", run)
    assert found[0]["path"] == "train/blue/planted.png"
    assert (found[0]["part"], found[0]["label"], found[0]["suggested"]) == ("train", "blue", "red")
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    assert not any(row["leave_out"] == "1" for row in found[:1])
    page = (tmp_path / "out" / "index.html").read_text()
    assert "labelled blue, looks like red" in page


def test_python_finds_what_the_command_does(mislabelled, trained_once, tmp_path) -> None:
    _, run = trained_once("classify")
    found = convnext.check(mislabelled, task="classify", workers=0, labels=True, source=run)
    ours = [problem.paths for problem in found.problems if problem.kind == "label"]
    rows = suspects(mislabelled, tmp_path / "out", "--task", "classify", "--with", run)
    assert ours[0] == ("train/blue/planted.png",)
    assert [path for (path,) in ours] == [row["path"] for row in rows]
    assert not [p for p in convnext.check(mislabelled, workers=0, source=run).problems if p.kind == "label"]
    with pytest.raises(convnext.InputError, match="give labels=True too"):
        convnext.check(mislabelled, workers=0, recipe="small_data")


def test_a_recipe_of_the_trainings_is_taken_from_python(mislabelled, monkeypatch) -> None:
    taken = []
    monkeypatch.setattr(wrong_labels_of_all, "find_wrong_labels", lambda *given, **how: taken.append(how) or [])
    convnext.check(mislabelled, task="classify", workers=0, labels=True, recipe="small_data")
    assert taken == [{"source": None, "recipe": "small_data"}]


def test_a_wrong_label_is_named_without_weights_by_models_that_did_not_learn_from_it(mislabelled, tmp_path) -> None:
    found = suspects(mislabelled, tmp_path / "out", *QUICK)
    assert found[0]["path"] == "train/blue/planted.png"
    assert found[0]["suggested"] == "red"


def test_labels_of_test_images_are_looked_at(mislabelled, trained_once, tmp_path) -> None:
    _, run = trained_once("classify")
    shutil.copytree(mislabelled / "train", mislabelled / "test")
    (mislabelled / "train" / "blue" / "planted.png").unlink()
    found = suspects(mislabelled, tmp_path / "out", "--task", "classify", "--with", run)
    assert (found[0]["path"], found[0]["part"]) == ("test/blue/planted.png", "test")


def test_objects_and_regions_are_looked_at_by_a_run(trained, tmp_path) -> None:
    task, data, run = trained
    if task == "classify":
        pytest.skip("images have one label each")
    kind = {"detect": "object", "segment": "region"}[task]
    found = suspects(data, tmp_path / "out", "--task", task, "--with", run, kind=kind)
    checked = json.loads((tmp_path / "out" / "check.json").read_text())
    assert not checked["left_out"]  # the segmenter's number of pixels without a class is the data's
    assert {row["part"] for row in found} <= {"train", "val"}
    assert (tmp_path / "out" / "index.html").read_text()


def test_what_is_left_out_is_not_looked_at(trained, tmp_path) -> None:
    task, data, run = trained
    if task == "segment":
        pytest.skip("this segmenter suspects nothing; label maps have a test of their own")
    kind = {"classify": "label", "detect": "object"}[task]
    if task == "classify":
        data = shutil.copytree(data, tmp_path / "data")
        shutil.copy(data / "train" / "red" / "3.png", data / "train" / "blue" / "planted.png")
    options = ["--task", task, "--with", run]
    first = suspects(data, tmp_path / "all", *options, kind=kind)[0]["path"]
    (tmp_path / "exclude.txt").write_text(first)
    options += ["--set", f"exclude={tmp_path / 'exclude.txt'}"]
    assert first not in {row["path"] for row in suspects(data, tmp_path / "fewer", *options, kind=kind)}


def test_label_maps_that_are_left_out_are_not_looked_at(trained_once, monkeypatch, tmp_path) -> None:
    data, run = trained_once("segment")
    looked: list[str] = []
    monkeypatch.setattr(wrong_labels, "suspects", lambda model, part, *_: looked.extend(map(str, part.images)) or [])
    (tmp_path / "exclude.txt").write_text("images/train/0.png\n")
    problems_of_regions(SegmentConfig(data=str(data)), str(run))
    before = len(looked)
    problems_of_regions(SegmentConfig(data=str(data), exclude=str(tmp_path / "exclude.txt")), str(run))
    assert len(looked) == 2 * before - 1 > 1


def test_of_annotations_in_several_forms_one_is_named(trained_once, capsys, tmp_path) -> None:
    data, run = trained_once("detect")
    both = shutil.copytree(data, tmp_path / "both")
    as_yolo(both, dict(read_annotated(both).parts), polygons=True)
    options = ["--task", "detect", "--with", run]
    line = fails(capsys, "check", both, "--labels", *options)
    assert "annotations in several forms, coco, yolo: --format coco takes one of them" in line
    suspects(both, tmp_path / "out", *options, "--format", "yolo", kind="object")
    assert json.loads((tmp_path / "out" / "check.json").read_text())["parts"]["train"]["images"] == 6


def test_too_few_images_to_train_on_parts_of_them(capsys, tmp_path) -> None:
    data = make_folder(tmp_path / "data", train=1, val=1) / "train"
    line = fails(capsys, "check", data, "--task", "classify", "--labels", *QUICK)
    assert "3 images cannot be trained on in parts" in line


def test_what_cannot_work_is_said_in_a_line(capsys, tmp_path, trained) -> None:
    task, data, run = trained
    assert "--labels" in fails(capsys, "check", data, "--with", run)
    objects = make_objects(tmp_path / "objects", train=2, val=1)
    assert "--with RUN" in fails(capsys, "check", objects, "--labels", "--task", "detect", "--workers", 0)
    other = {"classify": "no detector", "segment": "no detector"}.get(task)
    if other is not None:
        line = fails(capsys, "check", objects, "--task", "detect", "--labels", "--with", run, "--workers", 0)
        assert other in line
    if task != "segment":
        scenes = make_scenes(tmp_path / "scenes")
        line = fails(capsys, "check", scenes, "--task", "segment", "--labels", "--with", run, "--workers", 0)
        assert "no segmenter" in line
