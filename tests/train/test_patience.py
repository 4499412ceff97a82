"""`--patience`: training ends where the score on validation images no longer rises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from making import FAST, FAST_SEGMENT, fails, make_scenes
from safetensors.torch import load_file
from vacuous import nonempty

from convnext import cli
from convnext.runs.directory import Run
from convnext.runs.summary import summarise_run

STILL = ["--base-lr", "0", "--min-lr", "0"]  # no score is better than the first


def train(data: Path, out: Path, *options: str) -> list[int]:
    """The epochs of a run."""
    assert cli.main(["train", "classify", str(data), "--out", str(out), *FAST, *options]) == 0
    return [row["epoch"] for row in Run(out).rows()]


def test_it_ends_after_so_many_evaluations_without_a_better_score(colours: Path, tmp_path: Path) -> None:
    assert train(colours, tmp_path / "run", *STILL, "--epochs", "9", "--patience", "2") == [1, 2, 3]
    assert summarise_run(tmp_path / "run").state == "ended"
    assert (tmp_path / "run" / "checkpoints" / "best.safetensors").is_file()
    assert train(colours, tmp_path / "whole", *STILL, "--epochs", "3", "--patience", "5") == [1, 2, 3]


def test_a_resumed_run_has_waited_as_long(colours: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [*STILL, "--epochs", "9", "--patience", "3"]
    assert train(colours, run, *options) == [1, 2, 3, 4]
    first = load_file(run / "model.safetensors")
    shutil.rmtree(max((run / "checkpoints").glob("epoch-*")))
    assert train(colours, run, *options, "--resume") == [1, 2, 3, 4]
    again = load_file(run / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in nonempty(first))
    (run / "groups.json").write_text('{"groups": []}')
    assert train(colours, run, *options, "--resume") == [1, 2, 3, 4]  # it has ended, and ends again
    assert (run / "groups.json").is_file()
    assert train(colours, run, *options[:-1], "4", "--resume") == [1, 2, 3, 4, 5]
    assert not (run / "groups.json").exists()  # it was of weights that are gone
    assert json.loads((run / "config.json").read_text())["patience"] == 4


def test_evaluations_are_counted_and_not_epochs(tmp_path: Path) -> None:
    command = ["train", "segment", str(make_scenes(tmp_path / "data")), "--out", str(tmp_path / "run"), *FAST_SEGMENT]
    # A batch norm's averages would move the score.
    options = ["--ignore-index", "9", "--epochs", "9", "--eval-every", "2", "--patience", "1", "--head-norm", "group"]
    assert cli.main([*command, *options, *STILL]) == 0
    assert [row["epoch"] for row in Run(tmp_path / "run").rows()] == [1, 2, 3, 4]


def test_a_task_without_a_score_has_no_patience(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["pretrain", colours, "--out", tmp_path / "run"]
    assert "there is no option --patience" in fails(capsys, *command, "--patience", "2")
    assert "patience of a pretrain run is always None" in fails(capsys, *command, "--set", "patience=2")
    assert "patience must be at least 1" in fails(
        capsys, "train", "classify", colours, "--out", tmp_path / "run", "--patience", "0"
    )
