"""Folds of a cross-validation that goes on: of one recipe and the same options, or refused before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from making import FAST, fails, make_folder

from convnext import api, cli
from convnext.errors import InputError
from convnext.runs.directory import Run


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a cross-validation whose second fold has not begun."""
    data = make_folder(tmp_path / "data", train=4, val=2, size=16)
    command = ["cross-validate", str(data), "--folds", "2", "--out", str(tmp_path / "out"), *FAST, "--epochs", "1"]
    train = api.train

    def the_first(task: Any, data: Any, *, out: Path, **how: Any) -> Any:
        if out.name != "fold-1":
            raise InputError("the disk is full")
        return train(task, data, out=out, **how)

    with monkeypatch.context() as patch:
        patch.setattr(api, "train", the_first)
        assert cli.main([*command, "--recipe", "small_data"]) == 2
    return command


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--recipe", "digits"], "--recipe small_data, not digits"),
        (["--base-lr", "0.5"], "--base-lr 0.0112, not 0.5"),
        (["--batch-size", "4"], "--batch-size 8, not 4"),
        (["--patience", "3"], "--patience none, not 3"),
    ],
)
def test_folds_that_would_be_trained_otherwise_are_refused(
    stopped: list[str], options: list[str], difference: str, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """They were averaged."""
    said = fails(capsys, *stopped, *options)
    assert f"fold-1 was begun with {difference}" in said
    assert not (tmp_path / "out" / "fold-2").exists()


def test_options_that_are_left_out_are_refused(
    stopped: list[str], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    place = stopped.index("--image-size")
    said = fails(capsys, *stopped[:place], *stopped[place + 2 :])
    assert "fold-1 was begun with --image-size 32, not 224" in said


def test_folds_that_follow_have_the_recipe_of_the_first(stopped: list[str], tmp_path: Path) -> None:
    assert cli.main([*stopped, "--workers", "1"]) == 0
    first, second = (Run(tmp_path / "out" / f"fold-{n}").read_config() for n in (1, 2))
    assert second | {"fold": "1/2", "workers": 0} == first


def test_folds_that_have_ended_otherwise_are_not_averaged(
    stopped: list[str], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    assert cli.main(stopped) == 0
    run = Run(tmp_path / "out" / "fold-2")
    run.write_json("config.json", run.read_config() | {"base_lr": 0.5})
    assert "fold-2 was begun with --base-lr 0.5, not 0.0112" in fails(capsys, *stopped)
