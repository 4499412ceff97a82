"""scikit-learn's embedded handwritten digits, 8x8 pixels: the demo.

Command:  convnext pretrain digits --recipe digits --out runs/pretrained
          convnext train classify digits --recipe digits --init runs/pretrained --out runs/digits
Hardware: a CPU, a few minutes.
Result:   about 98 % on the held-out digits.
"""

from __future__ import annotations

from convnext.config import ClassifyConfig, PretrainConfig


def digits(model: str, from_weights: bool) -> ClassifyConfig:
    """Digits enlarged to 24 pixels, with a stem that keeps them all."""
    return ClassifyConfig(
        recipe="digits",
        model=model,
        in_chans=1,
        stem_patch=1,
        image_size=24,
        crop=1.0,
        crop_scale=(0.7, 1.0),
        hflip=0.0,
        rand_augment=None,
        random_erasing=0.0,
        epochs=8,
        batch_size=64,
        base_lr=6e-3,
        warmup_epochs=1.0,
        clip_grad=1.0,
        ema=0.99,
        workers=0,
    )


def digits_pretrain(model: str) -> PretrainConfig:
    """FCMAE on the same images, without their labels."""
    return PretrainConfig(
        recipe="digits",
        model=model,
        in_chans=1,
        stem_patch=1,
        image_size=24,
        patch_size=8,
        crop_scale=(0.7, 1.0),
        hflip=0.0,
        epochs=10,
        warmup_epochs=1.0,
        batch_size=64,
        base_lr=4e-3,
        min_lr=0.0,
        betas=(0.9, 0.95),
        clip_grad=1.0,
        workers=0,
    )
