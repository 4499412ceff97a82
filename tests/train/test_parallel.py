"""Several processes compute what one does, on the same batches: the commands, as `torchrun` starts them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from making import evaluated, wait_for_rows
from PIL import Image
from sitecustomize import BYTE
from starting import losses, start

from convnext import cli
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.runtime.distributed import own_places
from convnext.train import progress
from convnext.train.parallel import SHARDED_FROM, is_fsdp

COMMON = ["--image-size", "32", "--stem-patch", "2", "--drop-path", "0", "--muon-lr-scale", "none", "--base-lr", "1e-3"]
COMMON += ["--epochs", "3", "--batch-size", "8", "--workers", "0", "--device", "cpu", "--model", BYTE]
STEPS = 9  # of 24 images
COUNTED = 203  # of which neither two nor four processes have the same number, nor whole batches of 64
ARGUMENTS = {
    "pretrain": ["pretrain", *COMMON, "--patch-size", "16", "--probe-every", "20", "--decoder-dim", "64"],
    "classify": ["train", "classify", *COMMON, "--mixup", "0.5", "--cutmix", "1", "--accumulate", "2"],
}


def arguments(task: str, colours: Path, out: Path, parallel: str) -> list[str]:
    data = colours / "train" if task == "pretrain" else colours
    return [*ARGUMENTS[task], str(data), "--out", str(out), "--parallel", parallel]


@pytest.fixture(scope="module")
def alone(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run of each task by a single process."""
    runs = {task: tmp_path_factory.mktemp(task) / "run" for task in ARGUMENTS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "LOG_EVERY", 1)
        for task, out in runs.items():
            assert cli.main(arguments(task, colours, out, "ddp")) == 0
    return runs


@pytest.mark.parametrize(
    ("processes", "parallel", "parameters", "split"),
    [
        (1, "fsdp", SHARDED_FROM, False),
        (1, "auto", SHARDED_FROM, False),
        (2, "fsdp", 10, True),
        (2, "ddp", SHARDED_FROM, False),
        (2, "auto", SHARDED_FROM - 1, False),
        (2, "auto", SHARDED_FROM, True),
    ],
)
def test_large_networks_are_split_among_processes(
    processes: int, parallel: str, parameters: int, split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "count", lambda: processes)
    model = torch.nn.Module()
    model.register_parameter("weight", torch.nn.Parameter(torch.empty(parameters, device="meta")))
    assert is_fsdp(model, parallel) == split


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.heavy)])
def test_they_compute_what_one_does(
    count: int, alone: dict[str, Path], run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Every step's loss, by DDP and FSDP; and an evaluation, in which no image is counted twice."""
    measured = tmp_path / "measured"
    make_many(measured, COUNTED)
    evaluate = ["evaluate", str(run), str(measured), "--json", "--device", "cpu", "--workers", "0"]
    runs = {(task, parallel): tmp_path / f"{task}-{parallel}" for task in ARGUMENTS for parallel in ("ddp", "fsdp")}
    process = start(count, *(arguments(task, colours, out, how) for (task, how), out in runs.items()), evaluate)
    said, error = process.communicate(timeout=550)
    assert process.returncode == 0, error
    for (task, _), out in runs.items():
        expected = losses(alone[task])
        assert len(expected) == STEPS
        assert losses(out) == pytest.approx(expected, abs=1e-5)
        assert Run(out).rows()[-1].keys() == Run(alone[task]).rows()[-1].keys()
    together = json.loads(said.splitlines()[-1])
    one = evaluated(capsys, *evaluate[1:])
    assert together["images"] == one["images"] == COUNTED
    assert together["top1"] == one["top1"]
    assert together["val_loss"] == pytest.approx(one["val_loss"], abs=1e-5)


def make_many(folder: Path, count: int) -> None:
    colours = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
    for number in range(count):
        name = list(colours)[number % 3]
        path = folder / "val" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), tuple(value + number % 50 for value in colours[name])).save(path)


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["classify", "pretrain"])
def test_what_four_saved_two_and_one_take_up(task: str, colours: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    command = [*arguments(task, colours, out, "fsdp"), "--epochs", "7"]
    assert cli.main([*arguments(task, colours, whole, "ddp"), "--epochs", "7"]) == 0
    process = start(4, command)
    wait_for_rows(process, out, 2)
    process.send_signal(signal.SIGTERM)  # which torchrun passes on
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "continue with --resume" in error
    stopped = len(Run(out).rows())
    assert 2 <= stopped < 7
    process = start(2, [*command, "--resume"])
    wait_for_rows(process, out, stopped + 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert len(Run(out).rows()) < 7
    assert cli.main([*command, "--resume", "auto"]) == 0
    expected = [row["loss"] for row in Run(whole).rows()]
    assert [row["loss"] for row in Run(out).rows()] == pytest.approx(expected, abs=1e-5)


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
