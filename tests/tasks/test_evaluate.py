"""`convnext evaluate`, in every task: which images, at which size, in which type, and a row for each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from making import evaluated, fails, make_folder, make_objects, make_scenes, rows_of

COUNTS = {"classify": (24, 12), "detect": (6, 3), "segment": (8, 3)}  # images of training and validation


def test_each_split_can_be_chosen(trained: tuple, capsys: pytest.CaptureFixture) -> None:
    task, data, run = trained
    train, val = COUNTS[task]
    for split, images in {"train": train, "val": val, "all": train + val}.items():
        found = evaluated(capsys, run, data, "--split", split)
        assert (found["split"], found["images"]) == (split, images)
    assert "test" in fails(capsys, "evaluate", run, data, "--split", "test")


def test_a_folder_of_another_day_is_measured_whole(
    trained: tuple, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """Without parts, and not what the run was trained on; a third of it was, without a word."""
    task, data, run = trained
    if task == "classify":
        other = make_folder(tmp_path / "x", train=5, val=1, size=44) / "train"
        shutil.rmtree(other.parent / "val")
    elif task == "detect":
        other = make_objects(tmp_path / "x", train=5, val=1, size=60)
        shutil.rmtree(other / "val")
        (other / "val.json").unlink()
    else:
        make_scenes(tmp_path / "x", train=5, val=1)
        other = tmp_path / "y"
        for kind in ("images", "annotations"):
            shutil.copytree(tmp_path / "x" / kind / "train", other / kind)
        shutil.copy(data / "classes.txt", other)
        for path in (other / "images").iterdir():  # other pixels than those trained on
            path.write_bytes((data / "images" / "val" / "1.png").read_bytes() if path.stem in "13" else b"")
        for name in ("0", "2", "4"):
            (other / "images" / f"{name}.png").unlink()
            (other / "annotations" / f"{name}.png").unlink()
        for name in ("1", "3"):
            shutil.copy(data / "annotations" / "val" / "1.png", other / "annotations" / f"{name}.png")
    count = {"classify": 15, "detect": 5, "segment": 2}[task]
    for weights in (run, run / "model.safetensors"):
        found = evaluated(capsys, weights, other)
        assert (found["split"], found["images"]) == ("all", count)


def test_a_row_for_each_image(trained: tuple, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    task, data, run = trained
    found = evaluated(capsys, run, data, "--out", tmp_path / "rows")
    rows = rows_of(tmp_path / "rows" / "images.csv")
    assert len(rows) == found["images"] == COUNTS[task][1]
    assert all(Path(row["path"]).is_file() for row in rows)
    if task == "classify":
        right = sum(row["right"] == "True" for row in rows)
        assert 100 * right / len(rows) == pytest.approx(found["top1"])
        assert all((row["truth"] == row["answer"]) == (row["right"] == "True") for row in rows)
        assert all(row["truth"] == Path(row["path"]).parent.name for row in rows)
        assert all(1 / 3 < float(row["score"]) <= 1 for row in rows)
    elif task == "detect":
        objects = rows_of(tmp_path / "rows" / "objects.csv")
        for row in rows:
            outcomes = [each["outcome"] for each in objects if each["path"] == row["path"]]
            assert [outcomes.count(name) for name in ("matched", "missed", "false")] == [
                int(row[name]) for name in ("matched", "missed", "false")
            ]
            assert int(row["objects"]) == int(row["matched"]) + int(row["missed"])
        truth = json.loads((data / "val.json").read_text())
        assert sum(int(row["objects"]) for row in rows) == len(truth["annotations"])
    else:
        assert {row["truth"] for row in rows} <= {"sky", "ground", "box"}
        assert all(0 <= float(row["pixel_accuracy"]) <= 100 for row in rows)


def test_another_size_is_said(trained: tuple, capsys: pytest.CaptureFixture) -> None:
    task, data, run = trained
    own = evaluated(capsys, run, data)
    larger = evaluated(capsys, run, data, "--image-size", "96")
    assert "image_size" not in own
    assert larger["image_size"] == 96
    assert {k: v for k, v in larger.items() if k in own} != own
    if task == "classify":
        assert evaluated(capsys, run, data, "--crop", "1")["crop"] == 1
    else:
        assert "crop" in fails(capsys, "evaluate", run, data, "--crop", "1")
    assert "at least 1" in fails(capsys, "evaluate", run, data, "--image-size", "0")


def test_another_precision_is_near(trained: tuple, capsys: pytest.CaptureFixture) -> None:
    _, data, run = trained
    own, half = evaluated(capsys, run, data), evaluated(capsys, run, data, "--precision", "bf16")
    assert half["images"] == own["images"]
    for name, value in own.items():
        if isinstance(value, float):
            assert half[name] == pytest.approx(value, abs=max(6.0, 0.3 * abs(value)))
    assert evaluated(capsys, run, data, "--precision", "fp32") == own


def test_rows_that_cannot_be_written_are_known_before(
    trained: tuple, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    _, data, run = trained
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(capsys, "evaluate", run, data, "--out", tmp_path / "file" / "rows")
