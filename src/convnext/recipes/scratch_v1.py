"""ImageNet-1K training of ConvNeXt V1 from scratch (arXiv 2201.03545, appendix A.1).

Command:  convnext train classify IMAGENET --recipe scratch_v1 --model convnext_tiny --out runs/v1-tiny
Hardware: published on 4 nodes of 8 V100; batch 4096 over all devices.
Result:   top-1 at 224, tiny 82.1, small 83.1, base 83.8, large 84.3.
"""

from __future__ import annotations

from convnext.config import ClassifyConfig
from convnext.errors import InputError
from convnext.variants import find_variant

# xlarge was published from 22K alone; from scratch it follows large.
DROP_PATH = {
    "convnext_tiny": 0.1,
    "convnext_small": 0.4,
    "convnext_base": 0.5,
    "convnext_large": 0.5,
    "convnext_xlarge": 0.5,
}


def scratch_v1(model: str) -> ClassifyConfig:
    """The published training of any V1 size."""
    if find_variant(model).version != 1:
        raise InputError(f"recipe scratch_v1 is for V1 models; for {model} use finetune_v2 or small_data")
    return ClassifyConfig(
        recipe="scratch_v1",
        model=model,
        epochs=300,
        batch_size=4096,
        base_lr=2.5e-4,  # 4e-3 at batch 4096
        weight_decay=0.05,
        warmup_epochs=20.0,
        mixup=0.8,
        cutmix=1.0,
        label_smoothing=0.1,
        drop_path=DROP_PATH[model],
        layer_scale_init=1e-6,
        ema=0.9999,
        precision="bf16",
        workers=10,
    )
