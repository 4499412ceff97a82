"""Several processes compute what one does, on the same batches: the commands, as `torchrun` starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from convnext import cli
from convnext.processes import own_places
from convnext.run import Run

COMMON = [
    "--image-size",
    "32",
    "--stem-patch",
    "2",
    "--epochs",
    "20",
    "--batch-size",
    "24",
    "--workers",
    "0",
    "--base-lr",
    "1e-3",
]
COMMON += ["--device", "cpu", "--drop-path", "0", "--muon", "none"]
ARGUMENTS = {  # 24 images: a step an epoch, so that a row is a step
    "pretrain": ["pretrain", *COMMON, "--patch-size", "16", "--look-every", "20", "--decoder-dim", "64"],
    "classify": [
        "train",
        "classify",
        *COMMON,
        "--mixup",
        "0.5",
        "--cutmix",
        "1",
        "--accumulate",
        "2",
        "--muon",
        "none",
    ],
}


def start(count: int, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "-m", "convnext.cli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def torchrun(count: int, *arguments: str) -> str:
    """What the processes print on stdout; they must end well."""
    process = start(count, *arguments)
    out, error = process.communicate(timeout=550)
    assert process.returncode == 0, error
    return out


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in Run(run).rows()]


@pytest.fixture(scope="module", params=ARGUMENTS)
def alone(request: pytest.FixtureRequest, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A task, and its run by a single process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert cli.main([*ARGUMENTS[request.param], data(request.param, colours), "--out", str(out)]) == 0
    return request.param, out


def data(task: str, colours: Path) -> str:
    return str(colours / "train" if task == "pretrain" else colours)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("count", [2, 4])
def test_the_losses_are_those_of_one_process(
    alone: tuple[str, Path], count: int, parallel: str, colours: Path, tmp_path: Path
) -> None:
    task, run = alone
    out = tmp_path / "run"
    torchrun(count, *ARGUMENTS[task], data(task, colours), "--out", str(out), "--parallel", parallel)
    expected = losses(run)
    assert len(expected) == 20
    assert losses(out) == pytest.approx(expected, abs=1e-5)
    assert Run(out).rows()[-1].keys() == Run(run).rows()[-1].keys()


def test_what_four_processes_saved_one_and_two_take_up(alone: tuple[str, Path], colours: Path, tmp_path: Path) -> None:
    task, run = alone
    out = tmp_path / "run"
    arguments = [*ARGUMENTS[task], data(task, colours), "--out", str(out), "--parallel", "fsdp"]
    process = start(4, *arguments)
    wait_for_rows(process, out, 4)
    process.send_signal(signal.SIGTERM)  # which torchrun passes on
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "continue with --resume" in error
    stopped = len(losses(out))
    assert 4 <= stopped < 20
    process = start(2, *arguments, "--resume")
    wait_for_rows(process, out, stopped + 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert len(losses(out)) < 20
    assert cli.main([*arguments, "--resume", "auto"]) == 0
    assert losses(out) == pytest.approx(losses(run), abs=1e-5)


def wait_for_rows(process: subprocess.Popen, run: Path, count: int) -> None:
    end = time.monotonic() + 400
    while len(losses(run)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("count", [2, 4])
def test_no_image_is_evaluated_twice(count: int, run: Path, tmp_path: Path) -> None:
    colours = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
    for number in range(1003):
        name = list(colours)[number % 3]
        path = tmp_path / "val" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), tuple(value + number % 50 for value in colours[name])).save(path)
    arguments = ["evaluate", str(run), str(tmp_path), "--json", "--device", "cpu", "--workers", "0"]
    together = json.loads(torchrun(count, *arguments))
    one = json.loads(subprocess.check_output([sys.executable, "-m", "convnext.cli", *arguments]))
    assert together["images"] == one["images"] == 1003
    assert together["top1"] == one["top1"]
    assert together["val_loss"] == pytest.approx(one["val_loss"], abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_processes_share_a_batch_and_keep_its_pairs(count: int) -> None:
    batch = 24
    shares = [own_places(batch, rank, count) for rank in range(count)]
    assert sorted(place for share in shares for place in share) == list(range(batch))
    for share in shares:
        assert [batch - 1 - place for place in reversed(share)] == share


@pytest.mark.parametrize("count", [1, 5])
def test_odd_shares_are_whole(count: int) -> None:
    shares = [own_places(35, rank, count) for rank in range(count)]
    assert sorted(place for share in shares for place in share) == list(range(35))
