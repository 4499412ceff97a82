"""ConvNeXt V1 on ImageNet (arXiv 2201.03545, appendix A; where the paper is silent, the released commands)."""

from __future__ import annotations

from convnext.errors import InputError
from convnext.tasks.classify.config import ClassifyConfig

# Drop path by size. Xlarge was published from 22K alone; from scratch it follows large.
SCRATCH = {
    "convnext_tiny": 0.1,
    "convnext_small": 0.4,
    "convnext_base": 0.5,
    "convnext_large": 0.5,
    "convnext_xlarge": 0.5,
}
SCRATCH_22K = {
    "convnext_tiny": 0.0,
    "convnext_small": 0.0,
    "convnext_base": 0.1,
    "convnext_large": 0.1,
    "convnext_xlarge": 0.2,
}
FROM_22K = {
    "convnext_tiny": 0.0,
    "convnext_small": 0.1,
    "convnext_base": 0.2,
    "convnext_large": 0.3,
    "convnext_xlarge": 0.4,
}
AT_384 = {"convnext_base": 0.8, "convnext_large": 0.95}


def scratch_v1(model: str) -> ClassifyConfig:
    """Training on ImageNet-1K from random weights.

    Command:  convnext train classify IMAGENET --recipe scratch_v1 --model convnext_tiny --out runs/v1-tiny
    Hardware: published on 4 machines of 8 GPUs, large on 8.
    Result:   top-1 at 224: tiny 82.1, small 83.1, base 83.8, large 84.3.
    """
    return ClassifyConfig(
        model=model,
        epochs=300,
        batch_size=4096,
        base_lr=2.5e-4,  # 4e-3 at batch 4096
        weight_decay=0.05,
        warmup_epochs=20.0,
        mixup=0.8,
        cutmix=1.0,
        label_smoothing=0.1,
        drop_path=drop_path(SCRATCH, model, "scratch_v1"),
        layer_scale_init=1e-6,
        ema=0.9999,
        precision="bf16",
        workers=10,
    )


def finetune_384_v1(model: str) -> ClassifyConfig:
    """Fine-tuning at 384 pixels of models trained on ImageNet-1K at 224.

    Command:  convnext train classify IMAGENET --recipe finetune_384_v1 --model convnext_base \\
                  --init convnext_base_1k_224 --out runs/v1-base-384
    Hardware: published on 2 machines of 8 GPUs.
    Result:   top-1 at 384: base 85.1, large 85.5.
    """
    return ClassifyConfig(
        model=model,
        image_size=384,
        epochs=30,
        batch_size=512,
        base_lr=2.5e-5,  # 5e-5 at batch 512
        weight_decay=1e-8,
        layer_decay=0.7,
        layer_groups="group",
        drop_path=drop_path(AT_384, model, "finetune_384_v1"),
        head_init_scale=0.001,
        precision="bf16",
        workers=10,
    )


def scratch_22k_v1(model: str) -> ClassifyConfig:
    """Training on ImageNet-22K from random weights.

    Command:  convnext train classify IMAGENET22K --recipe scratch_22k_v1 --model convnext_base --out runs/v1-base-22k
    Hardware: published on 16 machines of 8 GPUs.
    Result:   a start for `finetune_22k_v1`.
    """
    return ClassifyConfig(
        model=model,
        epochs=90,
        batch_size=4096,
        base_lr=2.5e-4,
        weight_decay=0.05,
        warmup_epochs=5.0,
        mixup=0.8,
        cutmix=1.0,
        label_smoothing=0.1,
        drop_path=drop_path(SCRATCH_22K, model, "scratch_22k_v1"),
        layer_scale_init=1e-6,
        precision="bf16",
        workers=10,
    )


def finetune_22k_v1(model: str) -> ClassifyConfig:
    """Fine-tuning on ImageNet-1K after ImageNet-22K, at 224 pixels or with `--image-size 384`.

    Command:  convnext train classify IMAGENET --recipe finetune_22k_v1 --model convnext_base \\
                  --init convnext_base_22k_224 --out runs/v1-base
    Hardware: published on 2 (xlarge 4) machines of 8 GPUs, at 384 on 4 (xlarge 8).
    Result:   top-1 at 224 and 384: tiny 82.9, 84.1; small 84.6, 85.8; base 85.8, 86.8; large 86.6, 87.5; xlarge 87.0,
              87.8.
    """
    return ClassifyConfig(
        model=model,
        epochs=30,
        batch_size=512,
        base_lr=2.5e-5,
        weight_decay=1e-8,
        layer_decay=0.8,
        layer_groups="group",
        drop_path=drop_path(FROM_22K, model, "finetune_22k_v1"),
        head_init_scale=0.001,
        ema=0.9999 if model == "convnext_xlarge" else None,
        precision="bf16",
        workers=10,
    )


def drop_path(table: dict[str, float], model: str, recipe: str) -> float:
    """The model's rate. `InputError` where the table has none."""
    if model not in table:
        raise InputError(f"recipe {recipe} is for {', '.join(table)}, not {model}")
    return table[model]
