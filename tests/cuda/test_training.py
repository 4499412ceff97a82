"""Training on a GPU: what a CPU learns, in every task, type and way of running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from making import FAST, FAST_DETECT, FAST_SEGMENT, make_folder, make_objects, make_scenes
from safetensors.torch import load_file
from vacuous import nonempty

from convnext import cli
from convnext.data.image_set import read_images, read_train_val
from convnext.runs.directory import Run
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.task import Classification
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.pretrain.fcmae.task import Pretraining
from convnext.train.trainer import Trainer

TASKS = {
    "classify": (make_folder, ["train", "classify"], FAST),
    "pretrain": (make_folder, ["pretrain"], ["--image-size", "64", "--epochs", "2", "--batch-size", "8"]),
    "detect": (make_objects, ["train", "detect"], FAST_DETECT),
    "segment": (make_scenes, ["train", "segment"], [*FAST_SEGMENT, "--ignore-index", "9", "--dropout", "0"]),
}


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A task's command, its data and options, and a folder for runs."""
    make, command, options = TASKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return [*command, str(make(folder / "data"))], options, folder


def losses(task: tuple, name: str, *options: str) -> list[float]:
    """The losses by epoch of a run."""
    command, fast, folder = task
    run = folder / name
    assert cli.main([*command, "--out", str(run), *fast, "--workers", "2", *options]) == 0
    return [row["loss"] for row in Run(run).rows()]


def test_a_gpu_learns_what_a_cpu_does(task) -> None:
    """Without drop path; cuDNN's convolutions may round to TF32, which changes what a detector proposes."""
    there = losses(task, "cuda", "--device", "cuda", "--drop-path", "0")
    here = losses(task, "cpu", "--device", "cpu", "--drop-path", "0")
    assert there == pytest.approx(here, rel=0.05)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_half_types_learn_the_same(task, precision: str, compiled: str) -> None:
    """Compiled too: validation images of many sizes must not stop it."""
    options = ["--device", "cuda", "--drop-path", "0", "--precision", precision, "--compile", compiled]
    there = losses(task, f"{precision}-{compiled}", *options)
    if precision == "fp16":  # these few steps go into finding its scale, and may all be left out
        return
    whole = losses(task, f"fp32-{precision}-{compiled}", "--device", "cuda", "--drop-path", "0")
    assert there == pytest.approx(whole, rel=0.15)


def test_a_resumed_run_is_the_undisturbed_one(task) -> None:
    """Bit by bit, with `--deterministic`, which detection and segmentation refuse."""
    command, fast, folder = task
    if command[-2] in ("detect", "segment"):
        assert cli.main([*command, "--out", str(folder / "run"), *fast, "--deterministic", "true"]) == 2
        return
    options = [*fast, "--device", "cuda", "--deterministic", "true", "--save-every", "1"]
    weights = []
    for name in ("whole", "broken"):
        run = folder / name
        assert cli.main([*command, "--out", str(run), *options]) == 0
        if name == "broken":
            last = sorted((run / "checkpoints").glob("epoch-*"))[-1]
            for file in last.rglob("*"):
                file.unlink()
            last.rmdir()
            assert cli.main([*command, "--out", str(run), *options, "--resume"]) == 0
        weights.append(load_file(run / "model.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in nonempty(weights[0]))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("task_name", ["classify", "pretrain"])
def test_a_step_waits_for_nothing(task_name: str, tmp_path: Path) -> None:
    """After the first ones, which build tables and make room."""
    make, _, _ = TASKS[task_name]
    data = make(tmp_path / "data", train=40)
    shared = {"data": str(data), "device": "cuda", "batch_size": 8, "image_size": 64, "workers": 2, "precision": "bf16"}
    if task_name == "classify":
        config = ClassifyConfig(**shared, random_erasing=0.9, mixup=0.8, cutmix=1.0, clip_grad=1.0, ema=0.99)
        task: Any = Classification(config, *read_train_val(config.data))
    else:
        config = PretrainConfig(**shared)
        task = Pretraining(config, read_images(config.data))
    trainer = Trainer(task, Run(tmp_path / "run"))
    trainer.model.train()
    trainer.loader.set_epoch(0)
    for number, batch in enumerate(trainer.loader):
        torch.cuda.set_sync_debug_mode("error" if number >= 4 else "default")
        try:
            trainer.train_step(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert number > 6
    trainer.catch_up()
    assert trainer.counted == number + 1
