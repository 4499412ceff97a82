"""A weakness that was put into the images on purpose is what `evaluate` and the card name as the worst."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from making import FAST, copied, evaluated, make_folder

from convnext import cli
from convnext.runs.directory import Run
from convnext.tasks.card.write import write_card


def failures(run: Path) -> str:
    """The section of a run's card on where it fails."""
    write_card(Run(run))
    return (run / "README.md").read_text().split("## Known failures and limits")[1].split("\n## ")[0]


def test_a_group_of_noise(noisy: tuple[Path, Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, table = noisy
    own = copied(run, tmp_path / "run")
    capsys.readouterr()
    argv = ["evaluate", own, data, "--groups", table, "--by", "camera", "--workers", "0", "--out", own]
    assert cli.main([str(each) for each in argv]) == 0
    assert "largest gap: 'bad' is " in capsys.readouterr().out
    assert re.search(r"Weakest group by camera:\*\* bad, [\d.]+ below good in top1", failures(own))


def test_a_class_of_wrong_labels(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """All training images that are labelled green are red or blue."""
    data, run = make_folder(tmp_path / "data", val=24), tmp_path / "run"
    shutil.rmtree(data / "train" / "green")
    (data / "train" / "green").mkdir()
    for place, name in enumerate(("red", "blue", "red")):
        shutil.copy(data / "train" / name / f"{place}.png", data / "train" / "green" / f"{place}.png")
    assert (
        cli.main(
            ["train", "classify", str(data), "--out", str(run), *FAST, "--epochs", "6", "--model", "convnextv2_atto"]
        )
        == 0
    )
    assert re.search(r"\d+ of 24 'green' images right", failures(run))
    found = evaluated(capsys, run, data, "--by", "folder", "--out", run)
    gap = next(each for each in found["gaps"] if each["by"] == "folder")
    assert gap["lowest"] == "green"
    assert gap["low"] > 0
    assert "Weakest group by folder:** green" in failures(run)
