"""Steps recorded as CUDA graphs: the steps that would have been computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from making import make_folder, make_scenes

from convnext.runs.directory import Run
from convnext.tasks.build import build_task
from convnext.tasks.registry import find_task
from convnext.train.cuda_graph import BEFORE, GraphedStep
from convnext.train.trainer import Trainer

SHARED = {"device": "cuda", "workers": 2, "precision": "bf16", "image_size": 64, "batch_size": 4, "epochs": 3}
TASKS = {
    "classify": (make_folder, {"mixup": 0.8, "drop_path": 0.2}),
    "pretrain": (make_folder, {}),
    "segment": (make_scenes, {"short_side": 64, "test_size": 64, "fpn_dim": 32, "aux_dim": 16, "ignore_index": 9}),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("compiled", [False, True])
def test_recorded_steps_are_the_same_steps(
    name: str, compiled: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Drop path's and dropout's random numbers too; sums may be in another order."""
    make, options = TASKS[name]
    data = str(make(tmp_path / "data", train=30) if make is make_folder else make(tmp_path / "data"))
    losses = []
    for graph in (True, False):
        run, given = tmp_path / str(graph), {**SHARED, **options, "compile": compiled, "cuda_graph": graph}
        trainer = Trainer(build_task(find_task(name), data, run, given, None, False), Run(run))
        assert (trainer.graphed is not None) == graph
        losses.append(losses_of_steps(trainer, BEFORE + 6))
    assert "cannot be recorded" not in caplog.text
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0][-1] != losses[0][-2]


def losses_of_steps(trainer: Trainer, count: int) -> list[float]:
    """The losses of so many steps, over as many epochs as it takes."""
    trainer.model.train()
    found: list[float] = []
    epoch = 0
    while len(found) < count:
        trainer.loader.set_epoch(epoch)
        for batch in trainer.loader:
            trainer.train_step(batch)
            trainer.catch_up()
            found.append(trainer.losses - sum(found))
        epoch += 1
    if trainer.graphed is not None:
        assert trainer.graphed.replay is not None
    return found[:count]


def test_a_step_that_waits_for_the_gpu_is_computed_and_draws_random_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = torch.nn.Linear(4, 4, device="cuda")

    def compute(x: torch.Tensor) -> torch.Tensor:
        loss = (torch.nn.functional.dropout(model(x)) ** 2).mean()
        assert loss.item() >= 0  # waits
        loss.backward()
        return loss.detach()

    step, losses = GraphedStep(compute, model, lambda x: [x]), []
    for graphed in (True, False):
        torch.manual_seed(0)
        found = []
        for _ in range(6):
            x = torch.ones(8, 4, device="cuda")
            found.append(float(step(x) if graphed else compute(x)))
            model.zero_grad()
        losses.append(found)
    assert losses[0] == losses[1]
    assert caplog.text.count("cannot be recorded") == 1
