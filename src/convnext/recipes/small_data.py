"""A few thousand images on one machine, from random weights or from published or pre-trained ones.

Command:  convnext train classify FOLDER --out runs/mine
Hardware: one GPU, or a CPU with patience.
Result:   to be measured.
"""

from __future__ import annotations

from convnext.config import ClassifyConfig


def small_data(model: str, from_weights: bool) -> ClassifyConfig:
    """Training on up to some 20,000 images."""
    common = ClassifyConfig(
        recipe="small_data",
        model=model,
        warmup_epochs=1.0,
        rand_augment=None,
        random_erasing=0.0,
        crop_scale=(0.35, 1.0),
        label_smoothing=0.1,
        clip_grad=1.0,
    )
    if from_weights:
        return common.override({"epochs": 20, "batch_size": 32, "base_lr": 4e-3, "layer_decay": 0.8, "ema": 0.99})
    return common.override({"epochs": 50, "batch_size": 32, "base_lr": 1.6e-2, "ema": 0.99})
