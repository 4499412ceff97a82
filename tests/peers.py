"""The family's members as other libraries build them, by the layout of their files, and random weights for them."""

from collections.abc import Iterable
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

from convnext.variants import VARIANTS, Variant, find_variant, list_models

_FOUR = [f"convnext_{size}" for size in ("tiny", "small", "base", "large")]
_OTHERS = ("convnext_tiny_hnf", "convnext_large_mlp")
NAMES: dict[str, list[str]] = {
    "timm": timm.list_models("convnext*"),
    "hf": [
        v.name
        for v in map(find_variant, list_models())
        if v.stem == "patch" and v.norm == "layer" and v.eps == 1e-6 and v.name not in _OTHERS
    ],
    "dinov3": _FOUR,
    "torchvision": _FOUR,
}
"""Members that each library has."""


def members(names: Iterable[str]) -> list[Any]:
    """Members as a test's parameters; heavy where a smaller one of the same kind is among them."""
    smallest: dict[tuple, Variant] = {}
    variants = [VARIANTS[name] for name in names]
    for each in sorted(variants, key=lambda each: each.parameters):
        smallest.setdefault(kind_of(each), each)
    return [
        pytest.param(each.name, marks=() if smallest[kind_of(each)] is each else pytest.mark.heavy) for each in variants
    ]


def kind_of(variant: Variant) -> tuple:
    """What members share that differ in depths and widths alone."""
    return (
        variant.version,
        variant.stem,
        variant.norm,
        variant.eps,
        variant.norm_first,
        variant.head_hidden > 0,
        variant.layer_scale,
    )


def foreign_model(layout: str, name: str, classes: int = 1000) -> nn.Module:
    """The member as that library builds it."""
    variant = VARIANTS[name]
    sizes: dict[str, Any] = {"hidden_sizes": list(variant.dims), "depths": list(variant.depths)}
    if layout == "timm":
        return timm.create_model(name, num_classes=classes)
    if layout == "torchvision":
        return getattr(torchvision.models, name)(num_classes=classes)
    if layout == "dinov3":
        return transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**sizes))
    kind = "ConvNextV2" if variant.version == 2 else "ConvNext"
    config = getattr(transformers, f"{kind}Config")(**sizes, num_labels=classes, layer_norm_eps=1e-6)
    return getattr(transformers, f"{kind}ForImageClassification")(config)


def randomise(model: nn.Module) -> nn.Module:
    """Make every parameter random, GRN's and LayerScale's too, at sizes that keep activations of order one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = name.endswith((".gamma", "layer_scale", "layer_scale_parameter"))
            if ".grn." in name:
                parameter.copy_(0.3 * noise)
            elif parameter.ndim > 1 and not scale:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            elif scale or name.endswith(".weight"):
                parameter.copy_((0.5 if scale else 1) + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
    return model
