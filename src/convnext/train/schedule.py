"""The learning rate over time."""

from __future__ import annotations

import math

from convnext.config import TrainConfig


def learning_rate_at(epoch: float, config: TrainConfig, *, steps: int) -> float:
    """Learning rate of a run at a fractional epoch of so many steps: of its batch size, decay and warm-up."""
    peak = config.base_lr * config.batch_size / 256
    warmup = config.warmup_epochs if config.warmup_steps is None else config.warmup_steps / steps
    if config.milestones is not None:
        return step_decay(epoch, peak=peak, milestones=config.milestones, warmup_epochs=warmup)
    curve = linear if config.lr_decay == "linear" else cosine
    return curve(epoch, peak=peak, final=config.min_lr, epochs=config.epochs, warmup_epochs=warmup)


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
