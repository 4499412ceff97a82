"""Experiments: one function each, returning its whole config and opening with command, hardware and result."""

from __future__ import annotations

from collections.abc import Callable

from convnext.config import ClassifyConfig, PretrainConfig
from convnext.errors import InputError, nearest
from convnext.recipes.digits import digits, digits_pretrain
from convnext.recipes.fcmae import fcmae
from convnext.recipes.fcmae_small_data import fcmae_small_data
from convnext.recipes.finetune_v2 import finetune_v2
from convnext.recipes.scratch_v1 import scratch_v1
from convnext.recipes.small_data import small_data
from convnext.variants import find_variant

SMALL = 20_000
"""Up to so many training images, `small_data` is the default recipe."""

RECIPES: dict[str, Callable[[str, bool], ClassifyConfig]] = {
    # name: (model, whether it starts from weights other than a pre-training run's) -> config
    "small_data": small_data,
    "digits": digits,
    "finetune_v2": lambda model, from_weights: finetune_v2(model),
    "scratch_v1": lambda model, from_weights: scratch_v1(model),
}

PRETRAIN_RECIPES: dict[str, Callable[[str], PretrainConfig]] = {
    "small_data": fcmae_small_data,
    "digits": digits_pretrain,
    "fcmae": fcmae,
}


def classify_recipe(name: str | None, model: str, *, images: int, from_weights: bool) -> ClassifyConfig:
    """The recipe called `name`, or the one that suits the data: `small_data` up to `SMALL` images, else the paper's."""
    version = find_variant(model).version
    if name is None:
        paper = "finetune_v2" if version == 2 else "scratch_v1"
        name = "small_data" if images <= SMALL else paper
    if name not in RECIPES:
        raise InputError(f"unknown recipe '{name}'; {nearest(name, list(RECIPES))}")
    return RECIPES[name](model, from_weights)


def pretrain_recipe(name: str | None, model: str, *, images: int) -> PretrainConfig:
    """The pre-training recipe called `name`, or the one that suits the number of images."""
    find_variant(model)
    if name is None:
        name = "small_data" if images <= SMALL else "fcmae"
    if name not in PRETRAIN_RECIPES:
        raise InputError(f"unknown recipe '{name}'; {nearest(name, list(PRETRAIN_RECIPES))}")
    return PRETRAIN_RECIPES[name](model)
