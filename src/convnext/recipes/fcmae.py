"""FCMAE pre-training of any size on ImageNet-1K (arXiv 2301.00808, appendix A.1).

Command:  convnext pretrain IMAGENET/train --recipe fcmae --model convnextv2_base --out runs/fcmae-base
Hardware: published on up to 8 nodes of 8 A100; batch 4096 over all devices.
Result:   top-1 after fine-tuning (`finetune_v2`), atto 76.7 ... base 84.9, huge 86.3.

The paper's final models saw 1600 epochs, its ablations 800 (`--epochs 800`).
"""

from __future__ import annotations

from convnext.config import PretrainConfig


def fcmae(model: str) -> PretrainConfig:
    """The published pre-training, one for all sizes; V1 models take it too."""
    return PretrainConfig(
        recipe="fcmae",
        model=model,
        image_size=224,
        epochs=1600,
        warmup_epochs=40.0,
        batch_size=4096,
        base_lr=1.5e-4,
        min_lr=0.0,
        weight_decay=0.05,
        betas=(0.9, 0.95),
        precision="bf16",
        look_every=50,
        workers=10,
    )
