"""The family's table against the models built from it, on the meta device: parameters and multiply-accumulates."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext import InputError, create_model, list_models
from convnext.variants import VARIANTS, find_variant

ROUNDED = [name for name in list_models() if VARIANTS[name].parameters % 10**6 == 0]
EXACT = [name for name in list_models() if name not in ROUNDED]


def layer_norm_flops(shape, *_, **__):
    return 2 * 5 * math.prod(shape)


def parameters(name):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create_model(name).parameters())


def macs(name):
    """Multiply-accumulates as published: of convolutions and linear layers without the head, and 5 for each element
    of a LayerNorm; GELU, GRN, biases and additions are not counted."""
    with torch.device("meta"):
        model, images = create_model(name, num_classes=0), torch.zeros(1, 3, 224, 224)
    count = {torch.ops.aten.native_layer_norm: layer_norm_flops}
    with FlopCounterMode(display=False, custom_mapping=count) as counter:
        model(images)
    return counter.get_total_flops() // 2


def printed(value, unit):
    """The figures a paper may print for `value`: rounded, or cut off."""
    return {round(value / unit) * unit, math.floor(value / unit) * unit}


def test_the_family_is_complete():
    assert [VARIANTS[name].version for name in list_models()] == 9 * [2] + 22 * [1]


@pytest.mark.parametrize("name", EXACT)
def test_exact_figures(name):
    assert parameters(name) == VARIANTS[name].parameters
    assert macs(name) == VARIANTS[name].macs


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_figures(name):
    assert VARIANTS[name].parameters in printed(parameters(name), 10**6)
    assert VARIANTS[name].macs in printed(macs(name), 10**8)


def test_an_unknown_model_gets_the_nearest_names():
    for find in (find_variant, create_model):
        with pytest.raises(InputError, match=r"unknown model 'convnextv2_tinny'; nearest: convnextv2_tiny, "):
            find("convnextv2_tinny")
    with pytest.raises(
        InputError, match=r"unknown model 'resnet'; known: convnextv2_atto, .*convnext_isotropic_large$"
    ):
        find_variant("resnet")
