"""`convnext check` of every task's data, from the command line and Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from annotating import as_panoptic
from making import copied, fails, make_depths, make_folder, make_objects, make_scenes
from PIL import Image
from sklearn import datasets

import convnext
from convnext import cli
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.tasks.check import guess_task
from convnext.tasks.detect.check import wrong_objects

MADE = {"classify": make_folder, "detect": make_objects, "segment": make_scenes, "depth": make_depths}


@pytest.mark.parametrize("task", list(MADE))
def test_the_task_is_known_by_the_form(task: str, tmp_path: Path) -> None:
    assert guess_task(str(MADE[task](tmp_path / "data"))).name == task


def test_panoptic_maps_are_to_segment_but_beside_files_of_objects(tmp_path: Path) -> None:
    data = tmp_path / "data"
    as_panoptic(data, make_scenes(tmp_path / "scenes"))
    assert guess_task(str(data)).name == "segment"
    assert guess_task(str(data / "annotations" / "panoptic_val2017.json")).name == "segment"
    objects = '{"images": [], "categories": [], "annotations": []}'
    (data / "annotations" / "instances_val2017.json").write_text(objects)
    assert guess_task(str(data)).name == "detect"


def test_images_alone_are_to_pretrain_on(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    assert guess_task(str(tmp_path)).name == "pretrain"
    assert guess_task("digits").name == "classify"


@pytest.mark.parametrize("task", list(MADE))
def test_a_check_writes_what_it_has_found(task: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = MADE[task](tmp_path / "data"), tmp_path / "look"
    first = next(path for path in sorted(data.rglob("*.png")) if "train" in path.parts and "images" in path.parts) if (
        task in ("segment", "depth")
    ) else min((data / "train").rglob("*.png"))  # fmt: skip
    first.write_bytes(b"\x89PNG torn")
    before = sorted(path.relative_to(data) for path in data.rglob("*"))
    options = ["--set", "ignore_index=9"] if task == "segment" else []
    assert cli.main(["check", str(data), "--out", str(out), "--workers", "0", *options]) == 1
    said = capsys.readouterr().out
    assert "left out images that cannot be used: 1" in said
    assert str(out / "index.html") in said
    assert {path.name for path in out.iterdir()} == {"index.html", "problems.csv", "exclude.csv", "check.json"}
    name = first.relative_to(data).as_posix()
    assert f"{name},unreadable," in (out / "exclude.csv").read_text().splitlines()
    assert name in (out / "index.html").read_text()
    counts = json.loads((out / "check.json").read_text())
    assert counts["task"] == task
    assert counts["problems"]["train"]["unreadable"] == 1
    assert list(counts["parts"]) == ["train", "val"]
    assert sorted(path.relative_to(data) for path in data.rglob("*")) == before


def test_counts_by_part(tmp_path: Path) -> None:
    found = convnext.check(make_objects(tmp_path / "data"), workers=0)
    train = found.parts["train"]
    assert (train["images"], train["usable"], train["objects"]) == (6, 6, 9)
    assert sum(own["objects"] for own in train["classes"].values()) == 9
    assert train["width"] == [48, 56, 64]
    assert train["channels_and_bits"] == {"3×8": 6}
    pixels = convnext.check(make_scenes(tmp_path / "scenes"), workers=0, ignore_index=9).parts["val"]["classes"]
    assert set(pixels) == {"sky", "ground", "box"}
    assert min(own["pixels"] for own in pixels.values()) > 0


def test_the_test_part_is_looked_at(colours: Path, tmp_path: Path) -> None:
    data = copied(colours, tmp_path / "data")
    shutil.copytree(data / "val", data / "test")
    found = convnext.check(data, workers=0)
    leaks = [problem for problem in found.problems if problem.kind == "leak"]
    assert list(found.parts) == ["train", "val", "test"]
    assert len(leaks) == 12
    assert {problem.part for problem in leaks} == {"val, test"}
    assert {path.split("/")[0] for problem in leaks for path in problem.leave_out} == {"val"}
    assert found.counts["val, test"]["leak"] == 12


def test_test_images_that_are_left_out_are_not_looked_at(
    colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    caplog.set_level("INFO", "convnext")
    data = copied(colours, tmp_path / "data")
    shutil.copytree(data / "val", data / "test")
    every = [path.relative_to(data).as_posix() for path in sorted((data / "test").rglob("*.png"))]
    listed = tmp_path / "exclude.txt"
    listed.write_text("\n".join(every[1:]))
    found = convnext.check(data, workers=0, exclude=listed)
    assert found.parts["test"]["images"] == found.counts["val, test"]["leak"] == 1
    assert f"{len(every) - 1} images left out by {listed}" in caplog.text
    listed.write_text("\n".join(every))
    assert list(convnext.check(data, workers=0, exclude=listed).parts) == ["train", "val"]
    listed.write_text("\n".join(path.relative_to(data).as_posix() for path in data.glob("[tv]*[nl]/*/*.png")))
    line = fails(capsys, "check", data, "--task", "classify", "--workers", 0, "--set", f"exclude={listed}")
    assert f"{listed} leaves no image of {data} to train on" in line


@pytest.mark.parametrize("task", ["detect", "segment", "depth"])
def test_a_list_that_leaves_out_a_whole_part_is_named(task: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, listed = MADE[task](tmp_path / "data"), tmp_path / "exclude.txt"
    options = ["--set", "ignore_index=9"] if task == "segment" else []
    for part, words in (("train", "train on"), ("val", "hold out")):
        listed.write_text("\n".join(str(path) for path in data.rglob("*.png") if part in path.parts))
        command = ["check", data, "--task", task, "--workers", 0, "--set", f"exclude={listed}", *options]
        assert f"{listed} leaves nothing to {words} of {data}" in fails(capsys, *command)


def test_data_are_read_as_the_options_say(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    listed = tmp_path / "exclude.txt"
    listed.write_text("red/0.png\nred/1.png\n")
    check = ["check", str(colours / "train"), "--workers", "0", "--json"]
    for options in (["--exclude", str(listed)], ["--val-fraction", "0.5"], ["--group-by", r"([0-9])\.png"]):
        flag, value = options
        said = []
        for words in ([], options, ["--set", f"{flag[2:].replace('-', '_')}={value}"]):
            cli.main([*check, *words])
            said.append(json.loads(capsys.readouterr().out)["parts"])
        assert said[0] != said[1] == said[2]
    assert "--val-fraction takes a number, not 'x'" in fails(capsys, *check, "--val-fraction", "x")
    line = fails(capsys, *check, "--task", "pretrain", "--group-by", "folder")
    assert "--group-by is no option of `convnext pretrain`, for which DATA are" in line


def test_processes_read_the_same(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = copied(colours, tmp_path / "data")
    shutil.copy(min((data / "train" / "red").iterdir()), data / "val" / "red" / "copy.png")
    said = []
    for workers in ("0", "2"):
        assert cli.main(["check", str(data), "--workers", workers, "--json"]) == 1
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert said[0]["problems"] == {"train, val": {"leak": 1}, **said[0]["problems"]}


def test_data_in_memory_and_tables_are_checked(tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = datasets.load_digits()
    few.images, few.target = few.images[:200], few.target[:200]
    monkeypatch.setattr(datasets, "load_digits", lambda: few)
    digits = convnext.check("digits", task="classify", workers=0)
    assert digits.parts["train"]["images"] + digits.parts["val"]["images"] == 200
    rows = [f"{path},{path.parent.name}" for path in sorted((colours / "train").rglob("*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    assert sum(part["images"] for part in convnext.check(tmp_path / "table.csv", workers=0).parts.values()) == 24


def test_what_cannot_be_checked_is_a_line(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "no such folder" in fails(capsys, "check", tmp_path / "none")
    assert "--workers must be at least 0" in fails(capsys, "check", colours, "--workers", "-1")
    assert "no annotations found" in fails(capsys, "check", colours, "--task", "detect")
    train = ("train", "classify", colours, "--check", "--workers")
    assert "--workers takes a whole number, not 'x'" in fails(capsys, *train, "x")
    assert "workers must not be negative" in fails(capsys, *train, "-1")
    for name in ("data", "task", "out", "workers", "labels", "source", "recipe"):
        line = fails(capsys, "check", colours, "--set", f"{name}=x")
        assert f"--set takes options of a training, and {name} is the command's own" in line
    taken = tmp_path / "taken"
    taken.write_text("")
    assert "cannot write" in fails(capsys, "check", colours, "--workers", "0", "--out", taken / "look")


@pytest.mark.parametrize("late", [["--set", "fold=1/99"], ["--set", "group_by=patient"], ["--out", __file__]])
def test_what_cannot_work_is_said_before_anything_is_trained(
    late: list[str], colours: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    monkeypatch.setattr("convnext.train.wrong_labels.find_wrong_labels", lambda *given, **how: searched.append(1))
    fails(capsys, "check", colours, "--task", "classify", "--labels", *late)
    assert not searched


def boxes(*rows: tuple[int, tuple[float, float, float, float], object]) -> list[str]:
    annotations = tuple(Annotation(label, box, outline, False, 1.0) for label, box, outline in rows)
    image = AnnotatedImage(1, Path("a.jpg"), "a.jpg", 100, 100, annotations)
    return [problem.words for problem in wrong_objects("train", DetectionSet(("cat", "dog"), (1, 2), (image,)))]


def test_boxes_that_look_wrong() -> None:
    square = [[10, 10, 50, 10, 50, 50, 10, 50]]
    assert boxes((0, (10, 10, 50, 50), square), (1, (12, 30, 60, 90), None)) == []
    assert boxes((0, (10, 10, 50, 50), None), (0, (10, 10, 51, 50), None)) == ["'cat' twice at 10, 10, 50, 50"]
    assert boxes((0, (10, 10, 50, 50), None), (1, (10, 10, 50, 51), None)) == [
        "'cat' and 'dog' at one place, 10, 10, 50, 50"
    ]
    assert boxes((0, (10, 10, 11, 50), None)) == ["1 box under 2 pixels, one at 10, 10, 11, 50"]
    assert boxes((0, (60, 60, 90, 90), square)) == ["the box of 'cat' at 60, 60, 90, 90 is not around its outline"]
