"""Steps recorded as CUDA graphs: the steps that would have been computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from making import FAST, FAST_SEGMENT, make_folder, make_scenes

from convnext import cli
from convnext.runs.directory import Run
from convnext.train.cuda_graph import GraphedStep

TASKS = {
    "classify": (make_folder, ["train", "classify"], FAST),
    "pretrain": (
        make_folder,
        ["pretrain"],
        ["--image-size", "64", "--epochs", "3", "--batch-size", "8"],
    ),
    "segment": (make_scenes, ["train", "segment"], [*FAST_SEGMENT, "--ignore-index", "9", "--epochs", "3"]),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_recorded_steps_are_the_same_steps(
    name: str, compiled: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Drop path's and dropout's random numbers too; sums may be in another order."""
    make, command, options = TASKS[name]
    data = str(make(tmp_path / "data"))
    losses = []
    for graph in ("true", "false"):
        run = tmp_path / graph
        shared = ["--device", "cuda", "--workers", "2", "--precision", "bf16", "--compile", compiled]
        assert cli.main([*command, data, "--out", str(run), *options, *shared, "--cuda-graph", graph]) == 0
        losses.append([row["loss"] for row in Run(run).rows()])
    assert "cannot be recorded" not in caplog.text
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


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
            found.append(
                float(step(torch.ones(8, 4, device="cuda")) if graphed else compute(torch.ones(8, 4, device="cuda")))
            )
            model.zero_grad()
        losses.append(found)
    assert losses[0] == losses[1]
    assert caplog.text.count("cannot be recorded") == 1
