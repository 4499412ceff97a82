"""The outcome of a training step: its loss, and the norm of its gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convnext.runtime.device import runs_ahead


class Outcome:
    """Loss and gradient norm of a step, copied from a GPU without waiting for it.

    Args:
        epoch: counted from 1.
        step: counted from 1.
        batch: what the step was of, to name its images if it fails.
        loss: a tensor of one number, as `norm`.
    """

    def __init__(self, epoch: int, step: int, batch: Any, loss: Tensor, norm: Tensor) -> None:
        self.epoch, self.step, self.batch = epoch, step, batch
        self.nonfinite = torch.logical_and(loss.isfinite(), norm.isfinite()).logical_not().float()  # as AdamW takes it
        values = torch.stack([loss.float(), norm.float()])
        self._copied = None
        if runs_ahead(values.device):
            self._values = torch.empty(2, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._copied = torch.Event(values.device)
            self._copied.record()
        else:
            self._values = values

    def read(self) -> tuple[float, float, bool]:
        """Loss, norm, and whether both are finite; waits until a GPU has computed them."""
        if self._copied is not None:
            self._copied.synchronize()
        loss, norm = self._values.tolist()
        return loss, norm, math.isfinite(loss) and math.isfinite(norm)
