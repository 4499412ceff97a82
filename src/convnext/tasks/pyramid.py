"""What detection and segmentation share: networks on the pyramid of a backbone."""

from __future__ import annotations

from typing import Any

from torch import nn

from convnext import processes
from convnext.config import TrainConfig
from convnext.device import pick_device
from convnext.errors import InputError


def encoder_of(config: TrainConfig) -> dict[str, Any]:
    """Arguments of `create_encoder`; with `init`, its first weights are those."""
    return {
        "drop_path_rate": config.drop_path,
        "layer_scale_init": config.layer_scale_init,
        "checkpointing": config.checkpointing,
        "weights": config.init,
    }


def synchronised(model: nn.Module, device: str) -> nn.Module:
    """With several processes on CUDA, batches are normalised over all of them."""
    together = processes.count() > 1 and pick_device(device).type == "cuda"
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if together else model


def refuse_deterministic(config: TrainConfig) -> None:
    """`InputError` where `--deterministic` is asked for and cannot be had."""
    if config.deterministic and pick_device(config.device).type == "cuda":
        raise InputError(
            "on a GPU, operators of detection and segmentation have no deterministic form: leave --deterministic out"
        )
