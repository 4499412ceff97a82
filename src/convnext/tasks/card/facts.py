"""Facts of a run that all tasks record alike, for the card."""

from __future__ import annotations

from typing import Any

from torch import nn

from convnext.config import TrainConfig
from convnext.cores import usable_cores
from convnext.runs.directory import Run
from convnext.runs.energy import estimate_energy
from convnext.runs.environment import timestamp
from convnext.runtime import distributed
from convnext.tasks.card.about import read_about

MOST_SECONDS = 10.0
"""Time that looking for copies, or computing intervals, may take at most."""


def common_facts(run: Run, config: TrainConfig, model: nn.Module) -> dict[str, Any]:
    """Date and energy."""
    device = next(model.parameters()).device
    gpus = distributed.count() if device.type == "cuda" else 0  # one a process, of which some may be elsewhere
    hours, about = training_seconds(run) / 3600, read_about(run.path, config.data)
    return {
        "ended": timestamp(),
        "energy": estimate_energy(hours, len(usable_cores()), gpus, about)._asdict(),
    }


def training_seconds(run: Run) -> float:
    """Time that a run's epochs took, in seconds."""
    return sum(row.get("seconds", 0.0) for row in run.rows())
