"""FCMAE pre-training on a few thousand images of one's own, on one machine.

Command:  convnext pretrain FOLDER --model convnextv2_atto --image-size 128 --out runs/pretrained
Hardware: one GPU, or a CPU with patience.
"""

from __future__ import annotations

from convnext.config import PretrainConfig


def fcmae_small_data(model: str) -> PretrainConfig:
    """The paper's method with small batches and a higher rate, for few images seen often."""
    return PretrainConfig(
        recipe="small_data",
        model=model,
        epochs=100,
        warmup_epochs=5.0,
        batch_size=64,
        base_lr=4e-3,
        min_lr=0.0,
        weight_decay=0.05,
        betas=(0.9, 0.95),
        clip_grad=1.0,
    )
