"""`--slurm`: what is submitted, and a job that is told to leave, queued again, and ends as if nothing had happened."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from making import FAST, fails

from convnext import cli
from convnext.cli import slurm
from convnext.runs.directory import Run


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `sbatch` keeps what it is given, as `submitted`."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, text in {"sbatch": f'cp "$1" {place}/submitted; echo Submitted batch job 4711', "srun": "exit 1"}.items():
        (place / name).write_text(f"#!/bin/sh\n{text}\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place


def test_a_command_submits_itself(cluster: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "run"
    command = [
        "train",
        "classify",
        str(colours),
        "--slurm",
        "nodes=2,gpus=8,hours=72,partition=long",
        "--out",
        str(out),
    ]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"job 4711: its output goes to {out}.slurm/\n"
    flags = {line.removeprefix("#SBATCH --") for line in (cluster / "submitted").read_text().splitlines()}
    expected = {
        "nodes=2",
        "ntasks-per-node=8",
        "gpus-per-node=8",
        "time=4320",
        "partition=long",
        "signal=USR2@300",
        "requeue",
    }
    assert expected <= flags
    assert not out.exists()


def test_other_libraries_keep_their_log_handlers(
    cluster: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its import submitit would close them all, and absl's handler its stream with it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "submitit"]:
        monkeypatch.delitem(sys.modules, name)
    handler, closed = logging.StreamHandler(), []
    monkeypatch.setattr(handler, "close", lambda: closed.append(True))
    command = ["train", "classify", str(colours), "--slurm", "gpus=1", "--out", str(tmp_path / "run")]
    assert cli.main(command) == 0
    assert not closed
    assert "SUBMITIT_LOG_LEVEL" not in os.environ


def test_bad_submissions(cluster: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def submission(options: str, *more: str, out: Path = tmp_path / "run") -> str:
        return fails(capsys, "pretrain", "digits", "--out", out, "--slurm", options, *more)

    assert "no 'node'; nearest: nodes" in submission("node=2")
    assert "hours takes a number, not 'long'" in submission("hours=long")
    assert "memory takes a number, not 'inf'" in submission("memory=inf")
    assert "delete the run first" in submission("", "--overwrite")
    assert "already exists; continue it with --resume" in submission("", out=run)
    (cluster / "srun").unlink()
    os.environ["PATH"] = str(cluster)
    assert "cannot submit to SLURM" in submission("")


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # submitit never waits for it
def test_a_job_told_to_leave_is_queued_again(colours: Path, tmp_path: Path) -> None:
    """By submitit's executor for one machine, with the signal that SLURM sends."""
    options = [*FAST, "--epochs", "12", "--device", "cpu", "--drop-path", "0", "--muon-lr-scale", "none"]
    command = ["train", "classify", str(colours), *options]
    assert cli.main([*command, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "run"
    args = cli.build_parser().parse_args([*command, "--out", str(out), "--slurm", "gpus=2"])
    number, logs = slurm.submit_job(cli.execute, args, cluster="local")
    wait_for(lambda: len(Run(out).rows()) >= 3)
    _, second = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    os.kill(int(second), signal.SIGUSR2)  # alone: the first one has to queue the job again all the same
    wait_for((out / "result.json").is_file)
    said = "".join(path.read_text() for path in logs.glob("*_log.*"))
    assert "told to stop" in said
    assert f"Requeued job {number}" in said
    expected = [row["loss"] for row in Run(tmp_path / "whole").rows()]
    assert [row["loss"] for row in Run(out).rows()] == pytest.approx(expected, abs=1e-5)


def wait_for(what) -> None:
    end = time.monotonic() + 200
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
