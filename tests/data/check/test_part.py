"""`--check` of images with labels and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from making import fails

from convnext import cli
from convnext.data.check.part import class_lines, part_of_images
from convnext.data.image_set import ImageSet


def check(capsys: pytest.CaptureFixture, *command: str) -> tuple[int, list[str]]:
    status = cli.main([*command, "--check", "--workers", "0"])
    return status, capsys.readouterr().out.splitlines()


def test_images_are_counted_by_class(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = shutil.copytree(colours, tmp_path / "data")
    status, lines = check(capsys, "train", "classify", str(data))
    assert status == 0
    assert lines[0] == "train: 24 of 24 images can be used"
    assert [line.split() for line in lines[1:4]] == [["8", "blue"], ["8", "green"], ["8", "red"]]
    assert lines[4] == "val: 12 of 12 images can be used"
    bad = min((data / "train" / "red").iterdir())
    bad.write_bytes(bad.read_bytes()[:200])
    status, lines = check(capsys, "train", "classify", str(data))
    assert status == 1
    assert lines[0] == "train: 23 of 24 images can be used"
    assert lines[3].split() == ["7", "red"]
    assert f"left out images that cannot be used: 1 ({bad}: " in "\n".join(lines)


def test_images_without_labels(colours: Path, capsys: pytest.CaptureFixture) -> None:
    status, lines = check(capsys, "pretrain", str(colours / "train"))
    assert (status, lines[0]) == (0, "train: 24 of 24 images can be used")
    cli.main(["pretrain", str(colours / "train"), "--check", "--json", "--workers", "0"])
    found = json.loads(capsys.readouterr().out)
    assert (found["found"], found["left_out"]) == (lines[:2], [])


def test_what_training_refuses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "no such folder" in fails(capsys, "train", "classify", tmp_path / "none", "--check")
    assert "--out says where the run goes" in fails(capsys, "train", "classify", "digits")


def test_of_many_classes_the_ends_are_listed() -> None:
    names = tuple(f"class-{i:03}" for i in range(100))
    targets = [i for i in range(100) for _ in range(i + 1)]
    samples = ImageSet(names, targets, False, [""] * len(targets))
    lines = class_lines(part_of_images(samples), {0})
    assert lines[0] == "  100 classes; the smallest and the largest:"
    assert [line.split() for line in lines[1:3]] == [["0", "class-000"], ["2", "class-001"]]
    assert lines[-1].split() == ["100", "class-099"]
    several = ImageSet(names[:2], [(0, 1), (1,), ()], True, ["", "", ""])
    assert [line.split()[0] for line in class_lines(part_of_images(several), set())] == ["1", "2"]
