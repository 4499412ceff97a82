"""The family's table against the models built from it, on the meta device: parameters and multiply-accumulates."""

import math

import pytest

from convnext import InputError, create_model, list_models
from convnext.models.cost import count_macs, count_parameters
from convnext.variants import VARIANTS, find_variant

ROUNDED = [name for name in list_models() if VARIANTS[name].parameters % 10**6 == 0]
EXACT = [name for name in list_models() if name not in ROUNDED]


def printed(value, unit):
    """The figures a paper may print for `value`: rounded, or cut off."""
    return {round(value / unit) * unit, math.floor(value / unit) * unit}


def test_the_family_is_complete():
    assert [VARIANTS[name].version for name in list_models()] == 9 * [2] + 22 * [1]


@pytest.mark.parametrize("name", EXACT)
def test_exact_figures(name):
    assert count_parameters(name) == VARIANTS[name].parameters
    assert count_macs(name) == VARIANTS[name].macs


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_figures(name):
    assert VARIANTS[name].parameters in printed(count_parameters(name), 10**6)
    assert VARIANTS[name].macs in printed(count_macs(name), 10**8)


def test_an_unknown_model_gets_the_nearest_names():
    for find in (find_variant, create_model):
        with pytest.raises(InputError, match=r"unknown model 'convnextv2_tinny'; nearest: convnextv2_tiny, "):
            find("convnextv2_tinny")
    with pytest.raises(
        InputError, match=r"unknown model 'resnet'; known: convnextv2_atto, .*convnext_isotropic_large$"
    ):
        find_variant("resnet")
