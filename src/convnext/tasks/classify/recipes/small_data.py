"""Up to some 20,000 images on one machine."""

from __future__ import annotations

from convnext.tasks.classify.config import ClassifyConfig


def small_data(model: str) -> ClassifyConfig:
    """Training on up to some 20,000 images, from random weights or a pre-training run of one's own.

    Command:  convnext train classify FOLDER --out runs/mine
    Hardware: one GPU, or a CPU with patience.
    Result:   72.4 % top-1 with Atto on 3,000 images of Imagenette at 128 pixels, in ten minutes of one core, and
              82.5 % in forty; means of three and two seeds.
    """
    return small_data_values(model).override(
        {
            "epochs": 50,
            "base_lr": 1.12e-2,
            "muon_lr_scale": 10.0,
            "depthwise_init": "smooth",
            "progressive_resizing": 0.5,
            "crop_scale": (0.3, 1.0),
            "mixup": 0.2,
            "cutmix": 1.0,
            "mix_after": 15.0,
        }
    )


def small_data_finetune(model: str) -> ClassifyConfig:
    """Training on up to some 20,000 images from a trained classifier's weights, which are moved less.

    Command:  convnext train classify FOLDER --model convnextv2_tiny --init convnextv2_tiny_22k_1k_224 --out runs/mine
    Hardware: one GPU, or a CPU with patience.
    Result:   depends on the images.
    """
    return small_data_values(model).override({"epochs": 20, "base_lr": 4e-3, "layer_decay": 0.8, "clip_grad": 1.0})


def small_data_values(model: str) -> ClassifyConfig:
    """Values that the recipes of this module share."""
    return ClassifyConfig(
        model=model,
        batch_size=32,
        warmup_epochs=0.5,
        rand_augment=None,
        random_erasing=0.0,
        crop_scale=(0.5, 1.0),
        label_smoothing=0.1,
        ema=0.98,
    )
