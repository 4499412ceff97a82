"""FCMAE pre-training (arXiv 2301.00808)."""

from __future__ import annotations

from convnext.tasks.pretrain.fcmae.config import PretrainConfig


def fcmae(model: str) -> PretrainConfig:
    """Pre-training on ImageNet-1K, one recipe for all sizes (V2, appendix A.1); V1 models take it too.

    Command:  convnext pretrain IMAGENET/train --recipe fcmae --model convnextv2_base --out runs/fcmae-base
    Hardware: published on 8 machines of 8 GPUs.
    Result:   top-1 after `finetune_v2`: atto 76.7, femto 78.5, pico 80.3, nano 81.9, tiny 83.0, base 84.9, large 85.8,
              huge 86.3.

    The final models saw 1600 epochs, the ablations 800 (`--epochs 800`).
    """
    return PretrainConfig(
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
        probe_every=50,
        workers=10,
    )


def fcmae_small_data(model: str) -> PretrainConfig:
    """Pre-training on up to some 20,000 images of one's own: small batches, a higher rate, Muon for the linear weights.

    Command:  convnext pretrain FOLDER --model convnextv2_atto --image-size 128 --out runs/pretrained
    Hardware: one GPU, or a CPU with patience.
    Result:   Atto, 100 epochs of 3,000 images of Imagenette at 128 pixels: 51.1 % by nearest neighbours, 55.4 % by a
              linear probe (random weights: 25 and 32); two of its twelve blocks collapse. With `--muon-lr-scale 5` none
              does (49.8 and 55.3 %), and fine-tuned it is worse: 70.2 % instead of 74.3 (40 epochs, then 10).
    """
    return PretrainConfig(
        model=model,
        epochs=100,
        warmup_epochs=5.0,
        batch_size=64,
        base_lr=4e-3,
        muon_lr_scale=10.0,
        depthwise_init="smooth",
        min_lr=0.0,
        weight_decay=0.05,
        betas=(0.9, 0.95),
        clip_grad=1.0,
    )


def fcmae_digits(model: str) -> PretrainConfig:
    """Pre-training on the digits, without their labels.

    Command:  convnext pretrain digits --recipe fcmae_digits --out runs/pretrained
    Hardware: a CPU, a minute.
    Result:   reconstructions that continue strokes.
    """
    return PretrainConfig(
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
