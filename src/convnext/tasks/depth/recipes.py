"""Depth estimation from a few hundred or thousand images."""

from __future__ import annotations

from convnext.tasks.depth.config import DepthConfig


def depth_small_data(model: str) -> DepthConfig:
    """Depth from random weights or a pre-training run of one's own.

    Command:  convnext train depth FOLDER --init runs/pretrained --out runs/depth
    Hardware: one GPU, or a CPU with patience.
    Result:   depends on the images.
    """
    return depth_values(model).override({"base_lr": 3.2e-2, "muon_lr_scale": 10.0})  # 1e-3 at a batch of 8


def depth_small_data_finetune(model: str) -> DepthConfig:
    """Depth from weights that learnt from labels, which are moved less.

    Command:  convnext train depth FOLDER --model convnextv2_tiny --init convnextv2_tiny_22k_1k_224 --out RUN
    Hardware: one GPU, or a CPU with patience.
    Result:   depends on the images.
    """
    return depth_values(model).override({"base_lr": 6.4e-3, "layer_decay": 0.8})  # 2e-4 at a batch of 8


def depth_values(model: str) -> DepthConfig:
    """Values that the recipes of this module share."""
    return DepthConfig(
        model=model,
        image_size=256,
        epochs=30,
        batch_size=8,
        warmup_epochs=0.5,
        clip_grad=5.0,
        fpn_dim=64,
        aux_dim=64,
        dropout=0.0,
        short_side=256,
        max_side=1024,
        test_size=256,
        eval_every=5,
    )
