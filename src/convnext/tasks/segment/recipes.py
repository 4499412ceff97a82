"""Segmentation: the published ADE20K recipes, and one for few images."""

from __future__ import annotations

from typing import Any

from convnext.tasks.segment.config import SegmentConfig
from convnext.variants import values_of

ADE20K: dict[str, Any] = dict(
    epochs=10,
    epoch_steps=16_000,
    batch_size=16,
    base_lr=1.6e-3,  # 1e-4 at a batch of 16
    min_lr=0.0,
    lr_decay="linear",
    warmup_steps=1500,
    weight_decay=0.05,
    layer_decay=0.9,
    layer_groups="stage",
    reduce_zero_label=True,
    precision="bf16",
    workers=8,
)

AT_512: dict[str, Any] = dict(image_size=512, window=512, stride=341)
AT_640: dict[str, Any] = dict(image_size=640, short_side=640, max_side=2560, test_size=640, window=640, stride=426)

SEGMENT_V1: dict[str, dict[str, Any]] = {
    "convnext_tiny": dict(drop_path=0.4),
    "convnext_small": dict(drop_path=0.3),
    "convnext_base": dict(drop_path=0.4),
    "convnext_large": dict(drop_path=0.4),
    "convnext_xlarge": dict(drop_path=0.4),
}

SEGMENT_V2: dict[str, dict[str, Any]] = {
    "convnextv2_base": dict(drop_path=0.4),
    "convnextv2_large": dict(drop_path=0.4),
    "convnextv2_huge": dict(drop_path=0.4),
}


def upernet_v1(model: str) -> SegmentConfig:
    """UperNet on ADE20K at 512 pixels, from ImageNet-1K weights of ConvNeXt V1.

    Command:  convnext train segment ADE20K --recipe upernet_v1 --model convnext_tiny \\
                  --init convnext_tiny_1k_224 --out runs/ade
    Hardware: published on 8 GPUs.
    Result:   mIoU, seen once and at several scales: tiny 46.0, 46.7; small 48.7, 49.6; base 49.1, 49.9.
    """
    return SegmentConfig(model=model, **AT_512, **ADE20K, **values_of(SEGMENT_V1, model, "upernet_v1"))


def upernet_640_v1(model: str) -> SegmentConfig:
    """UperNet on ADE20K at 640 pixels, from ImageNet-22K weights of ConvNeXt V1.

    Command:  convnext train segment ADE20K --recipe upernet_640_v1 --model convnext_base \\
                  --init convnext_base_22k_224 --out runs/ade
    Hardware: published on 8 GPUs.
    Result:   not in the reference figures this project keeps.
    """
    known = {name: SEGMENT_V1[name] for name in ("convnext_base", "convnext_large", "convnext_xlarge")}
    rate = {"base_lr": 1.28e-3} if model == "convnext_xlarge" else {}  # 8e-5 at a batch of 16, in the released code
    return SegmentConfig(model=model, **AT_640, **ADE20K | rate, **values_of(known, model, "upernet_640_v1"))


def upernet_v2(model: str) -> SegmentConfig:
    """UperNet on ADE20K at 512 pixels, from fine-tuned ImageNet-1K weights of ConvNeXt V2.

    Command:  convnext train segment ADE20K --recipe upernet_v2 --model convnextv2_base \\
                  --init convnextv2_base_1k_224 --out runs/ade
    Hardware: published on several GPUs.
    Result:   mIoU: base 52.1, large 53.7, huge 55.0.
    """
    return SegmentConfig(model=model, **AT_512, **ADE20K, **values_of(SEGMENT_V2, model, "upernet_v2"))


def upernet_640_v2(model: str) -> SegmentConfig:
    """UperNet on ADE20K at 640 pixels, from fine-tuned ImageNet-22K weights of ConvNeXt V2.

    Command:  convnext train segment ADE20K --recipe upernet_640_v2 --model convnextv2_huge \\
                  --init convnextv2_huge_22k_1k_512 --out runs/ade
    Hardware: published on several GPUs.
    Result:   mIoU: huge 57.0.
    """
    known = {"convnextv2_huge": SEGMENT_V2["convnextv2_huge"]}
    return SegmentConfig(model=model, **AT_640, **ADE20K, **values_of(known, model, "upernet_640_v2"))


def segment_small_data(model: str) -> SegmentConfig:
    """Segmentation of up to some 20,000 images, from random weights or a pre-training run of one's own.

    Command:  convnext train segment FOLDER --init runs/pretrained --out runs/segmenter
    Hardware: one GPU, or a CPU with patience.
    Result:   Atto, 367 images of CamVid, 16 epochs: mIoU 58.4 after FCMAE, 55.4 from random weights.
    """
    return segmentation_values(model).override({"base_lr": 3.2e-2, "muon_lr_scale": 10.0})  # 1e-3 at a batch of 8


def segment_small_data_finetune(model: str) -> SegmentConfig:
    """Segmentation of up to some 20,000 images, from weights that learnt from labels, which are moved less.

    Command:  convnext train segment FOLDER --model convnextv2_tiny --init convnextv2_tiny_22k_1k_224 --out RUN
    Hardware: one GPU, or a CPU with patience.
    Result:   depends on the images.
    """
    return segmentation_values(model).override({"base_lr": 6.4e-3, "layer_decay": 0.8})  # 2e-4 at a batch of 8


def segmentation_values(model: str) -> SegmentConfig:
    """Values that the recipes of this module share."""
    return SegmentConfig(
        model=model,
        image_size=256,
        epochs=30,
        batch_size=8,
        warmup_epochs=0.5,
        clip_grad=5.0,
        fpn_dim=64,
        aux_dim=64,
        short_side=320,
        max_side=1280,
        scale=(0.6, 1.6),
        class_weights="root",
        test_size=320,
        eval_every=5,
    )
