"""Detection: the published COCO recipes, and one for few images."""

from __future__ import annotations

from typing import Any

from convnext.tasks.detect.config import DetectConfig
from convnext.variants import values_of

COCO_3X: dict[str, Any] = dict(epochs=36, weight_decay=0.05, milestones=(27, 33), precision="bf16", workers=8)

DETECT_V2: dict[str, dict[str, Any]] = {"convnextv2_base": dict(layer_decay=0.95, drop_path=0.4)}

DETECT_V1: dict[str, dict[str, Any]] = {
    "convnext_tiny": dict(layer_decay=0.95, layer_groups="group", drop_path=0.4),
}

V1_CASCADE: dict[str, dict[str, Any]] = {
    "convnext_tiny": dict(layer_decay=0.7, layer_groups="group", drop_path=0.4),
    "convnext_small": dict(layer_decay=0.7, layer_groups="group", drop_path=0.6),
    "convnext_base": dict(layer_decay=0.8, layer_groups="group", drop_path=0.7),
}


def mask_rcnn_v2(model: str) -> DetectConfig:
    """Mask R-CNN on COCO with large-scale jitter, from ImageNet or FCMAE weights of ConvNeXt V2.

    The published run pads what the jitter makes smaller than its square of 1024 pixels to that square, and GRN counts
    the padding. Here such an image is padded to multiples of 64 and no further, in training as in evaluation.

    Command:  convnext train detect COCO --recipe mask_rcnn_v2 --model convnextv2_base \\
                  --init convnextv2_base_1k_224 --out runs/coco
    Hardware: published on GPUs with 22.5 GB used on each.
    Result:   AP of boxes 52.9, of masks 46.4.
    """
    return DetectConfig(
        model=model,
        image_size=1024,
        batch_size=32,
        base_lr=8e-4,  # 1e-4 at a batch of 32
        layer_groups="group",
        warmup_steps=1000,
        soft_nms=True,
        **COCO_3X,
        **values_of(DETECT_V2, model, "mask_rcnn_v2"),
    )


def mask_rcnn_v1(model: str) -> DetectConfig:
    """Mask R-CNN on COCO, multi-scale, from ImageNet weights of ConvNeXt V1.

    Command:  convnext train detect COCO --recipe mask_rcnn_v1 --model convnext_tiny \\
                  --init convnext_tiny_1k_224 --out runs/coco
    Hardware: published on 8 GPUs.
    Result:   AP of boxes 46.2, of masks 41.7.
    """
    return DetectConfig(
        model=model,
        batch_size=16,
        base_lr=1.6e-3,  # 1e-4 at a batch of 16
        warmup_steps=500,
        scale_jitter=None,
        random_crop=0.5,
        **COCO_3X,
        **values_of(DETECT_V1, model, "mask_rcnn_v1"),
    )


def cascade_v1(model: str) -> DetectConfig:
    """Cascade Mask R-CNN on COCO, multi-scale, from ImageNet weights of ConvNeXt V1.

    Command:  convnext train detect COCO --recipe cascade_v1 --model convnext_small \\
                  --init convnext_small_1k_224 --out runs/coco
    Hardware: published on 8 GPUs.
    Result:   AP of boxes and masks: tiny 50.4, 43.7; small 51.9, 45.0; base 52.7, 45.6.
    """
    return DetectConfig(
        model=model,
        batch_size=16,
        base_lr=3.2e-3,  # 2e-4 at a batch of 16
        warmup_steps=500,
        cascade=True,
        box_convs=4,
        head_norm="batch",
        scale_jitter=None,
        random_crop=0.5,
        **COCO_3X,
        **values_of(V1_CASCADE, model, "cascade_v1"),
    )


def detect_small_data(model: str) -> DetectConfig:
    """Detection on up to some 20,000 images, from random weights or a pre-training run of one's own.

    Command:  convnext train detect FOLDER --init runs/pretrained --out runs/detector
    Hardware: one GPU, or a CPU with patience.
    Result:   Atto, 200 images of nuclei, 10 epochs, mean of two: mask AP50 88.7 and AP 59.5 after FCMAE, 88.9 and 59.0
              from random weights.
    """
    return detection_values(model).override({"base_lr": 6.4e-2, "muon_lr_scale": 10.0})  # 1e-3 at a batch of 4


def detect_small_data_finetune(model: str) -> DetectConfig:
    """Detection on up to some 20,000 images, from weights that learnt from labels, which are moved less.

    Command:  convnext train detect FOLDER --model convnextv2_tiny --init convnextv2_tiny_22k_1k_224 --out RUN
    Hardware: one GPU, or a CPU with patience.
    Result:   depends on the images.
    """
    return detection_values(model).override({"base_lr": 1.28e-2, "layer_decay": 0.8})  # 2e-4 at a batch of 4


def detection_values(model: str) -> DetectConfig:
    """Values that the recipes of this module share."""
    return DetectConfig(
        model=model,
        image_size=320,
        epochs=30,
        batch_size=4,
        warmup_epochs=0.5,
        clip_grad=5.0,
        cascade=True,
        class_agnostic=True,  # a few boxes of each class are too few to learn their forms from
        fpn_dim=64,
        linear_dim=256,
        mask_convs=2,
        anchor_scale=4.0,
        rois_per_image=128,
        scale_jitter=(0.8, 1.6),
        test_size=448,
        vflip=0.5,
        colour=0.2,
        eval_every=5,
    )
