"""The lines that a training ends with, at the end of runs of every task: printed, stored, and given to Python."""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from making import COLOURS, FAST, FAST_DETECT, FAST_SEGMENT, make_depths, make_folder, make_objects, make_scenes
from sitecustomize import BYTE

import convnext
from convnext import cli
from convnext.cli.parser import build_parser
from convnext.runs.ending import Ending, read_ending
from convnext.runs.summary import summarise_run

End = Callable[..., tuple[str, str]]


@pytest.fixture
def end(tmp_path: Path, capsys: pytest.CaptureFixture) -> End:
    """Trains by a command; returns its lines "reached" and "weakest", of which the run must hold the same."""

    def train(command: str, data: Path, *options: str) -> tuple[str, str]:
        out = tmp_path / "my run; rm x"
        assert cli.main([*command.split(), str(data), "--out", str(out), "--overwrite", *options]) == 0
        reached, weakest, head, *commands = capsys.readouterr().out.splitlines()
        assert head == "next:"
        assert len(commands) == 2
        for line in commands:
            assert line.startswith("  convnext ")
            words = shlex.split(line)
            assert str(out) in words
            build_parser().parse_args(words[1:])
        said, files = reached.removeprefix("reached: ").split(f"; {out} holds ")
        assert {"model.safetensors", "README.md", "curves.png"} <= set(files.split(", "))
        assert all((out / name).is_file() for name in files.split(", "))
        stored = read_ending(out)
        assert stored == Ending(said, weakest.removeprefix("weakest: "))
        assert json.loads((out / "summary.json").read_text()) == vars(stored)
        assert not [value for value in json.loads((out / "result.json").read_text()).values() if isinstance(value, str)]
        card = (out / "README.md").read_text(errors="surrogateescape").replace("\\", "")
        assert f"**Weakest:** {stored.weakest}\n".replace("\\", "") in card
        assert cli.main(["runs", str(out), "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["reached"], row["weakest"]) == (stored.reached, stored.weakest)
        return stored.reached, stored.weakest

    return train


def test_the_end_of_a_classifier(end: End, tmp_path: Path) -> None:
    """Whose classes cannot be learnt, and have names that no terminal and no Markdown should take as they are."""
    data = make_folder(tmp_path / "data")
    name = os.fsdecode(b"it's [a](b) \xff")
    (data / "train" / "red" / "0.png").replace(data / "val" / "green" / "red.png")
    for part in ("train", "val"):
        (data / part / "red").rename(data / part / name)
    for path in sorted((data / "val" / "blue").iterdir()):
        path.replace(data / "val" / name / f"blue-{path.name}")
    (data / "val" / "blue").rmdir()
    reached, weakest = end("train classify", data, *FAST, "--epochs", "4")
    assert reached.endswith(" % of 13 validation images are right (top1)")
    assert "'it's [a](b) \\udcff' images right" in weakest
    assert weakest.endswith("; not measured: 1 of 3 classes")


def test_the_end_of_a_classifier_of_several_labels(end: End, colours: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    options = [*FAST, "--multi-label", "--epochs", "1"]
    for labels, reached, weakest in (
        ("{}|any", "% mean average precision (mAP) on 12 validation images", ""),
        ("", "nothing was measured: no validation image has a label", "not known: no validation image has a label"),
    ):
        with open(table, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "labels", "split"])
            for path in sorted(colours.rglob("*.png")):
                part = path.parent.parent.name
                said = "{}|any" if part == "train" else labels
                rows.writerow([path, said.format(path.parent.name), part])
        found = end("train classify", table, *options)
        assert reached in found[0]
        assert weakest in found[1]


def test_the_end_of_a_detector(end: End, tmp_path: Path) -> None:
    reached, weakest = end("train detect", make_objects(tmp_path / "data"), *FAST_DETECT, "--epochs", "1")
    assert "(mask_AP)" in reached
    assert "on 3 validation images" in reached
    assert weakest.endswith("all are small objects (under 32² pixels)") or weakest.startswith("everything:")


def test_the_end_of_a_segmenter(end: End, tmp_path: Path) -> None:
    data = make_scenes(tmp_path / "data")
    (data / "classes.txt").write_text("sky\nground\nbox\nnever\n")
    reached, weakest = end("train segment", data, *FAST_SEGMENT, "--ignore-index", "9")
    assert "% mean overlap of true and found areas (mIoU) on 3 validation images" in reached
    assert "has the lowest overlap, IoU " in weakest
    assert weakest.endswith("; not measured: 1 of 4 classes")


def test_the_end_of_a_depth_estimator(end: End, tmp_path: Path) -> None:
    reached, weakest = end("train depth", make_depths(tmp_path / "data"), *FAST_SEGMENT)
    assert "(delta1), on 3 validation images" in reached
    assert weakest.startswith("where the truth is ")
    assert weakest.count(" to ") == 3


def test_the_end_of_a_pre_training(end: End, colours: Path) -> None:
    options = ["--image-size", "64", "--epochs", "1", "--batch-size", "8", "--workers", "0", "--decoder-dim", "64"]
    options += ["--model", BYTE]
    reached, weakest = end("pretrain", colours / "train", *options)
    assert reached.endswith("on hidden patches of 24 training images (loss)")
    assert weakest.startswith("no block has collapsed; ")


def test_from_python_and_for_classes_that_are_codes(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data")
    for part in ("train", "val"):
        for name, code in zip(COLOURS, ("n01440764", "n02102040", "n00005787"), strict=True):
            (data / part / name).rename(data / part / code)
    for path in sorted((data / "val" / "n02102040").iterdir())[:2]:
        path.replace(data / "val" / "n01440764" / f"wrong-{path.name}")
    result = convnext.train_classifier(data, out=tmp_path / "run", image_size=32, epochs=6, batch_size=8, workers=0)
    assert Ending(result.reached, result.weakest, result.licence) == read_ending(result.run)
    assert "'tench, Tinca tinca'" in result.weakest
    summary = summarise_run(result.run)
    assert (summary.reached, summary.weakest) == (result.reached, result.weakest)
    (result.run / "summary.json").unlink()  # as runs of before
    assert summarise_run(result.run).weakest == ""
