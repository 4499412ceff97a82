"""Training what is above a backbone alone (`--freeze-backbone`)."""

from __future__ import annotations

import logging

from torch import nn

from convnext.config import TrainConfig

log = logging.getLogger("convnext")


def drop_path_of(config: TrainConfig) -> float:
    """Stochastic depth of the backbone's last block; a frozen backbone has none, and computes as in evaluation."""
    return 0.0 if config.freeze_backbone else config.drop_path


def freeze(config: TrainConfig, backbone: nn.Module, *trained: nn.Module) -> None:
    """With `freeze_backbone`, fix all parameters of `backbone` but those of `trained`, which may lie inside.

    They get neither gradients nor an optimizer's state, and no graph is kept of what they compute.
    """
    if not config.freeze_backbone:
        return
    if config.init is None:
        log.warning("the frozen backbone has random weights: --init names trained ones")
    backbone.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)
