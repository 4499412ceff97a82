"""Detection and segmentation in two processes, and in parts of a batch: losses and weights of one process.

Their losses are means over regions or pixels, of which images have different numbers: a mean over a process's own
regions would differ (5.704 instead of 5.632 for a toy detector).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from making import FAST_DETECT, FAST_SEGMENT, make_objects, make_scenes
from safetensors.torch import load_file
from starting import losses, start

from convnext import cli
from convnext.train import progress

# Five steps of four images. Batch norms of two processes are two on a CPU, where PyTorch has none that spans them, and
# dropout draws for each process.
SHARED = ["--epochs", "5", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--drop-path", "0"]
SHARED += ["--muon-lr-scale", "none", "--base-lr", "1e-3", "--eval-every", "5"]
TASKS: dict[str, tuple[Callable, list[str]]] = {
    "detect": (make_objects, ["train", "detect", *FAST_DETECT, *SHARED]),
    "cascade": (
        make_objects,
        ["train", "detect", *FAST_DETECT, *SHARED, "--cascade", "true", "--class-agnostic", "true"],
    ),
    "segment": (
        make_scenes,
        ["train", "segment", *FAST_SEGMENT, *SHARED, "--ignore-index", "9", "--dropout", "0", "--head-norm", "group"],
    ),
}
TASKS["ohem and dice"] = (make_scenes, [*TASKS["segment"][1], "--loss", "ohem", "--dice", "1"])


@pytest.mark.heavy
@pytest.mark.parametrize(
    "task",
    ["detect", "segment", "cascade", "ohem and dice"],
)
def test_two_processes_and_two_parts_learn_what_one_does(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, options = TASKS[task]
    data = make(tmp_path / "data", train=4)
    command = [*options, str(data), "--out"]
    monkeypatch.setattr(progress, "LOG_EVERY", 1)
    assert cli.main([*command, str(tmp_path / "one")]) == 0
    assert cli.main([*command, str(tmp_path / "parts"), "--accumulate", "2"]) == 0
    runs = {how: [*command, str(tmp_path / how), "--parallel", how] for how in ("ddp", "fsdp")}
    process = start(2, *runs.values())
    _, error = process.communicate(timeout=550)
    assert process.returncode == 0, error
    expected, weights = losses(tmp_path / "one"), load_file(tmp_path / "one" / "model.safetensors")
    assert len(expected) == 5
    assert expected[-1] < expected[0]
    for how in ("parts", *runs):
        assert losses(tmp_path / how) == pytest.approx(expected, abs=1e-5), how
        found = load_file(tmp_path / how / "model.safetensors")
        apart = {name: (found[name] - weights[name]).abs().max().item() for name in weights}
        assert max(apart.values()) < 1e-5, (how, max(apart, key=lambda name: apart[name]))
    assert not torch.equal(weights["backbone.stages.3.0.pwconv1.weight"], torch.zeros(()))
