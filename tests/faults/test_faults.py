"""What goes wrong while a run trains: one clear line, and nothing lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from making import FAST, fails, wait_for_rows

from convnext import cli
from convnext.runs.directory import Run
from convnext.train.checkpoint import checkpoints

LONG = [*FAST, "--epochs", "500", "--save-every", "2"]


def start(*arguments: object, limit: int | None = None) -> subprocess.Popen:
    """The command in a process of its own; no file of it may grow beyond `limit` bytes."""

    def set_limit() -> None:
        assert limit is not None
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "convnext", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=set_limit if limit else None,
    )


def said(process: subprocess.Popen) -> str:
    """What the program itself wrote to stderr, after its lines of progress."""
    error = process.communicate(timeout=120)[1]
    assert "Traceback" not in error, error
    return error.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_stop(number: int, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start("train", "classify", colours, "--out", out, *LONG)
    wait_for_rows(process, out, 2)
    process.send_signal(number)
    assert "told to stop" in said(process)
    assert process.returncode == 128 + number
    last = checkpoints(out / "checkpoints")[-1]
    assert last is not None
    assert json.loads((last / "state.json").read_text())["step"] >= 6


def test_a_full_disk_keeps_the_last_checkpoint(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "classify", colours, "--out", out, *FAST]
    assert cli.main([str(a) for a in [*arguments, "--epochs", "2"]]) == 0
    before = checkpoints(out / "checkpoints")[-1]
    assert before is not None
    # A run of four epochs that stands after two, and may write no file of the size of a checkpoint.
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "epochs": 4}))
    process = start("train", "classify", colours, "--out", out, "--resume", limit=500_000)
    line = said(process)
    assert process.returncode == 2
    assert str(out) in line
    assert "too large" in line.lower()  # the limit's words for a full disk's "no space left on device"
    assert checkpoints(out / "checkpoints")[-1] == before
    assert cli.main([str(a) for a in ["train", "classify", colours, "--out", out, "--resume"]]) == 0
    assert len(Run(out).rows()) == 4


def test_a_killed_loader(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start("train", "classify", colours, "--out", out, *LONG, "--workers", "1")
    wait_for_rows(process, out, 2)
    children = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(process.pid)], text=True).split()
    os.kill(int(children[0]), signal.SIGKILL)
    line = said(process)
    assert process.returncode == 2
    assert "a process that loads images was killed" in line
    assert "continue with --resume" in line


def test_a_data_folder_that_vanishes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start("train", "classify", folder, "--out", out, *LONG)
    wait_for_rows(process, out, 2)
    shutil.rmtree(folder)
    line = said(process)
    assert process.returncode == 2
    assert "cannot be read" in line or "can be read" in line
    assert "continue with --resume" in line


def test_too_many_unreadable_images(capsys: pytest.CaptureFixture, folder: Path, tmp_path: Path) -> None:
    for number in range(4):
        (folder / "train" / "red" / f"{number}.png").write_bytes(b"")
    line = fails(
        capsys,
        "train",
        "classify",
        folder,
        "--out",
        tmp_path / "run",
        *FAST,
        "--max-unreadable",
        "0.1",
        "--epochs",
        "5",
    )
    assert "of 24 training images cannot be read, more than --max-unreadable 0.1 allows" in line
    assert "unreadable.txt" in line


def test_resume_auto_starts_or_goes_on(capsys: pytest.CaptureFixture, colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "classify", str(colours), "--out", str(out), *FAST, "--resume", "auto"]
    assert cli.main(arguments) == 0
    rows = Run(out).rows()
    assert cli.main(arguments) == 0  # ended: nothing is trained again
    assert Run(out).rows() == rows
    shutil.rmtree(out / "checkpoints")
    assert "its checkpoints are gone" in fails(capsys, *arguments)  # and its weights are not overwritten
    (out / "result.json").unlink()  # as if killed before the first one
    assert cli.main(arguments) == 0
    assert len(Run(out).rows()) == 2


def test_leftovers_of_a_killed_run_are_cleared(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "classify", str(colours), "--out", str(out), *FAST]
    assert cli.main(arguments) == 0
    unfinished = out / "checkpoints" / ".epoch-00009-step-0000000099"
    unfinished.mkdir()
    (out / ".model.safetensors.1.tmp").write_bytes(b"half")
    assert cli.main([*arguments, "--resume"]) == 0
    assert not unfinished.exists()
    assert not list(out.glob(".*.tmp"))
