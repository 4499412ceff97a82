"""Runs at a glance: as a table, as JSON, and two beside each other."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import FAST, fails

from convnext import cli
from convnext.runs.directory import Run
from convnext.runs.lock import is_locked, locked
from convnext.runs.summary import find_runs, summarise_run


@pytest.fixture
def runs(run: Path, colours: Path, tmp_path: Path) -> Path:
    """A run that ended, one that stopped, and what is no run."""
    folder = tmp_path / "runs"
    shutil.copytree(run, folder / "ended")
    options = [*FAST, "--mixup", "0.3", "--epochs", "4"]
    assert cli.main(["train", "classify", str(colours), "--out", str(folder / "more" / "stopped"), *options]) == 0
    stopped = folder / "more" / "stopped"
    rows = stopped.joinpath("metrics.jsonl").read_text().splitlines()
    (stopped / "metrics.jsonl").write_text("\n".join(rows[:3]) + "\n")
    (stopped / "result.json").unlink()
    (stopped / "README.md").unlink()
    (folder / "other").mkdir()
    (folder / "other" / "config.json").write_text('{"model": "bert"}')
    return folder


def test_runs_are_found_and_summed_up(runs: Path) -> None:
    ended, stopped = map(summarise_run, find_runs(runs))
    assert (ended.run.name, ended.task, ended.state) == ("ended", "classify", "ended")
    assert ended.epochs[0] == ended.epochs[1]
    assert ended.metrics == json.loads((ended.run / "result.json").read_text())
    assert ended.hours == pytest.approx(sum(row["seconds"] for row in Run(ended.run).rows()) / 3600)
    assert (stopped.state, stopped.epochs) == ("stopped", (3, 4))
    assert "top1" in stopped.metrics
    assert "seconds" not in stopped.metrics
    assert find_runs(runs / "ended") == [runs / "ended"]


def test_folders_that_cannot_be_read_are_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    run, locked_up = tmp_path / "a" / "run", tmp_path / "locked"
    for folder in (run, locked_up):
        folder.mkdir(parents=True)
    (run / "config.json").write_text('{"recipe": "", "data": "", "model": "", "epochs": 1}')
    (run / "environment.json").write_text("{}")
    listing = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path == locked_up:  # a mode does not keep root from it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert find_runs(tmp_path) == [run]
    assert f"{locked_up} cannot be read: permission denied" in caplog.messages
    assert f"{locked_up} cannot be read: permission denied" in fails(capsys, "runs", locked_up)
    assert f"{run / 'config.json'} is not a folder" in fails(capsys, "runs", run / "config.json")
    assert "no such folder" in fails(capsys, "runs", tmp_path / "none")
    assert "permission denied" in fails(capsys, "check", locked_up, "--task", "classify")


def test_a_run_that_is_being_written_is_said_to_train(runs: Path) -> None:
    with locked(runs / "ended"):
        assert summarise_run(runs / "ended").state == "training"
    (runs / "ended" / ".lock").touch()  # what a killed program leaves
    assert not is_locked(runs / "ended")
    assert summarise_run(runs / "ended").state == "ended"


def test_the_table_and_its_json(runs: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["runs", str(runs)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "task", "model"]
    assert "3/4" in rows[1]
    assert "stopped" in rows[1]
    assert cli.main(["runs", str(runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in found] == ["ended", "stopped"]
    assert found[1]["options"]["mixup"] == 0.3
    assert "no such folder" in fails(capsys, "runs", runs / "none")


def test_two_runs_beside_each_other(runs: Path, capsys: pytest.CaptureFixture) -> None:
    pair = [str(runs / "ended"), str(runs / "more" / "stopped")]
    assert cli.main(["compare", *pair, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["options"]["mixup"] == [0.2, 0.3]
    assert "model" not in found["options"]
    assert found["metrics"]["top1"][0] == json.loads((runs / "ended" / "result.json").read_text())["top1"]
    assert cli.main(["compare", *pair]) == 0
    assert any(line.split() == ["mixup", "0.2", "0.3"] for line in capsys.readouterr().out.splitlines())
    assert "is not a run" in fails(capsys, "compare", runs / "ended", runs / "other")
