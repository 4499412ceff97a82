"""The loss of a segmenter and a depth estimator: the head's own, and a share of the auxiliary head's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_depths, make_scenes
from torch import Tensor
from torch.nn import functional as F

from convnext.tasks.registry import find_task


def task_of(name: str, data: Path, **options: Any) -> Any:
    """A run's task on small data."""
    definition = find_task(name)
    config = definition.config(model="convnextv2_atto", data=str(data), **options)
    return definition.build(config, definition.read(config)[1])


@pytest.mark.parametrize("weight", [0.4, 0.0, 2.0])
def test_of_labels(weight: float, tmp_path: Path) -> None:
    task = task_of("segment", make_scenes(tmp_path / "data"), ignore_index=9, aux_weight=weight)
    draw = torch.Generator().manual_seed(0)
    logits, auxiliary = torch.randn(2, 2, 3, 4, 5, generator=draw)
    labels = torch.randint(3, (2, 4, 5), generator=draw)
    loss = task.loss(lambda images: (logits, auxiliary), (torch.zeros(2, 3, 4, 5), labels))
    expected = F.cross_entropy(logits, labels) + weight * F.cross_entropy(auxiliary, labels)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("weight", [0.4, 0.0])
def test_of_depths(weight: float, tmp_path: Path) -> None:
    """It is no less by the auxiliary head's, which alone is the same function of another output."""
    task = task_of("depth", make_depths(tmp_path / "data"), aux_weight=weight)
    draw = torch.Generator().manual_seed(0)
    outputs, auxiliary = torch.randn(2, 2, 1, 4, 5, generator=draw)
    part = (torch.zeros(2, 3, 4, 5), 1 + torch.rand(2, 4, 5, generator=draw))

    def loss_of(*answers: Tensor) -> Tensor:
        return task.loss(lambda images: answers, part)

    own, other = (loss_of(each, each) / (1 + weight) for each in (outputs, auxiliary))
    assert own.item() != pytest.approx(other.item(), rel=0.01)
    torch.testing.assert_close(loss_of(outputs, auxiliary), own + weight * other)
