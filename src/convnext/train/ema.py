"""Averaged weights (EMA): what the papers evaluate and release."""

from __future__ import annotations

import copy

import torch
from torch import nn


class AveragedModel:
    """An exponential moving average of a model's parameters, held in a model of its own.

    The decay starts low and reaches `decay` after about `10 / (1 - decay)` steps, so that the first,
    random weights do not weigh on short runs.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
        for own, other in zip(self.model.buffers(), model.buffers(), strict=True):  # batch norms' are averages already
            own.copy_(other)
