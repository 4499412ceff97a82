"""A signal ends every state of a run within seconds: loading, measuring, writing the report; and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from making import FAST, fails, make_folder
from safetensors.torch import load_file
from vacuous import nonempty

from convnext import cli
from convnext.data.image_set import read_train_val
from convnext.errors import Stopped
from convnext.runs.directory import Run
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.task import Classification
from convnext.train.checkpoint import checkpoints
from convnext.train.trainer import Trainer

WAIT = """
import signal, sys, time
from convnext import cli
from convnext.data.loading import Loader
from convnext.tasks.classify.task import Classification

signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where tests run in the background

def wait(*arguments, **options):
    print("waiting", flush=True)
    time.sleep(300)

def slowly(self):
    yield from itself(self)
    if {state!r} == "loading":
        wait()

itself, Loader.__iter__ = Loader.__iter__, slowly
if {state!r} != "loading":
    setattr(Classification, {{"measuring": "evaluate", "reporting": "finish"}}[{state!r}], wait)
sys.exit(cli.main({arguments!r}))
"""


def start(state: str, arguments: list[str]) -> subprocess.Popen:
    """A run that waits for five minutes when it comes to a state; returns when it is there."""
    script = WAIT.format(state=state, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


@pytest.fixture(scope="module")
def whole(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch that nothing stopped."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert cli.main(["train", "classify", str(colours), "--out", str(out), *FAST, "--epochs", "1"]) == 0
    return out


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("state", ["loading", "measuring", "reporting"])
def test_a_signal_ends_every_state(state: str, number: int, colours: Path, whole: Path, tmp_path: Path) -> None:
    arguments = ["train", "classify", str(colours), "--out", str(tmp_path / "run"), *FAST, "--epochs", "1"]
    process = start(state, arguments)
    process.send_signal(number)
    began = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 128 + number, error
    assert "Traceback" not in error
    assert "continue with --resume" in error.splitlines()[-1]
    assert cli.main([*arguments[:5], "--resume"]) == 0
    found, expected = (load_file(run / "model.safetensors") for run in (tmp_path / "run", whole))
    assert all(torch.equal(found[name], expected[name]) for name in nonempty(expected))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["top1"] >= 0


def test_the_second_signal_saves_nothing_that_is_half_done(colours: Path, tmp_path: Path) -> None:
    """It comes in anywhere, in the middle of an optimizer's step too: what is resumed is the checkpoint before."""
    out = tmp_path / "run"
    task = Classification(
        config := ClassifyConfig(data=str(colours), image_size=32, epochs=2, workers=0, batch_size=8),
        *read_train_val(config.data),
    )
    run = Run.create(out, config, overwrite=False)
    trainer = Trainer(task, run)
    update = trainer.update

    def interrupted(*arguments: torch.Tensor) -> None:
        update(*arguments)
        if trainer.step == 5:  # of the second epoch, whose checkpoint is that of the first
            for number in (signal.SIGTERM, signal.SIGTERM):
                trainer.stop.receive(number, None)

    trainer.update = interrupted
    with pytest.raises(Stopped, match="continue with --resume"):
        trainer.fit()
    assert [json.loads((path / "state.json").read_text())["step"] for path in checkpoints(run.checkpoints)] == [3]


def test_what_ignores_a_closed_terminal_goes_on(colours: Path, tmp_path: Path) -> None:
    """`nohup`."""
    arguments = ["train", "classify", str(colours), "--out", str(tmp_path / "run"), *FAST, "--epochs", "1"]
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{WAIT}"
    script = ignoring.format(state="measuring", arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_ctrl_c_ends_with_130(colours: Path, tmp_path: Path) -> None:
    arguments = ["train", "classify", str(colours), "--out", str(tmp_path / "run"), *FAST, "--epochs", "1"]
    process = start("measuring", arguments)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("convnext: interrupted")


def test_it_trains_outside_the_main_thread(colours: Path, tmp_path: Path) -> None:
    """As in a notebook's server."""
    statuses: list[int] = []
    arguments = ["train", "classify", str(colours), "--out", str(tmp_path / "run"), *FAST, "--epochs", "1"]
    thread = threading.Thread(target=lambda: statuses.append(cli.main(arguments)))
    thread.start()
    thread.join()
    assert statuses == [0]
    assert len(Run(tmp_path / "run").rows()) == 1


def test_too_little_shared_memory_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's is 64 MB; the run waited for ever."""

    def full(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # in the processes that load, which are forked
    data = make_folder(tmp_path / "data")
    said = fails(capsys, "train", "classify", data, "--out", tmp_path / "run", *FAST, "--workers", "2")
    assert "/dev/shm is full" in said
    assert "--workers" in said
    assert checkpoints(tmp_path / "run" / "checkpoints")  # what was there is kept
