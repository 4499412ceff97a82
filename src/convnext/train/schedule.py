"""The learning rate over time."""

from __future__ import annotations

import math


def step_decay(epoch: float, *, peak: float, milestones: tuple[int, ...], warmup_epochs: float) -> float:
    """Learning rate at a fractional epoch: linear from 0 to `peak`, then a tenth of it after each milestone."""
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    return peak * 0.1 ** sum(epoch >= milestone for milestone in milestones)


def linear(epoch: float, *, peak: float, final: float, epochs: float, warmup_epochs: float) -> float:
    """Learning rate at a fractional epoch: `cosine`'s warm-up, beneath a straight line from `peak` to `final`."""
    warmed = min(1.0, epoch / warmup_epochs) if warmup_epochs else 1.0
    return warmed * (peak + (final - peak) * epoch / epochs)


def cosine(epoch: float, *, peak: float, final: float, epochs: float, warmup_epochs: float) -> float:
    """Learning rate at a fractional epoch: linear from 0 to `peak`, then half a cosine down to `final`."""
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    if epochs <= warmup_epochs:  # all of a short run may be warm-up
        return peak
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))
