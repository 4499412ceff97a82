"""Parameters and multiply-accumulates of the family's members, counted without computing anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext.models.classifier import create_model

_NORM = 5
"""Multiply-accumulates for each element that a LayerNorm writes, as fvcore counts."""


def count_parameters(name: str) -> int:
    """Numbers that a classifier of the family holds, with a head of 1000 classes. `InputError` for an unknown name."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create_model(name).parameters())


@cache
def count_macs(name: str, image_size: int = 224, *, in_chans: int = 3, stem_patch: int = 4) -> int:
    """Multiply-accumulates of a network on one square image, as published.

    Those of convolutions and linear layers without the head, and 5 for each element of a LayerNorm; GELU, GRN, biases
    and additions are not counted. `InputError` for an unknown name.
    """
    with torch.device("meta"):
        model = create_model(name, num_classes=0, in_chans=in_chans, stem_patch=stem_patch)
        images = torch.zeros(1, in_chans, image_size, image_size)
    count = {torch.ops.aten.native_layer_norm: _flops_of_norm}
    with FlopCounterMode(display=False, custom_mapping=count) as counter:
        model(images)
    return counter.get_total_flops() // 2


def _flops_of_norm(shape: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * _NORM * math.prod(shape)
