"""Experiments: one function each, returning its whole config and opening with command, hardware and result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import get_type_hints

from convnext.config import ClassifyConfig, Config, DetectConfig, PretrainConfig, SegmentConfig, TrainConfig
from convnext.errors import InputError, nearest
from convnext.tasks.classify.recipes.digits import digits, fcmae_digits
from convnext.tasks.classify.recipes.imagenet_v1 import finetune_22k_v1, finetune_384_v1, scratch_22k_v1, scratch_v1
from convnext.tasks.classify.recipes.imagenet_v2 import finetune_22k_v2, finetune_v2, intermediate_22k_v2
from convnext.tasks.classify.recipes.small_data import small_data, small_data_finetune
from convnext.tasks.detect.recipes import (
    cascade_v1,
    detect_small_data,
    detect_small_data_finetune,
    mask_rcnn_v1,
    mask_rcnn_v2,
)
from convnext.tasks.pretrain.fcmae.recipes import fcmae, fcmae_small_data
from convnext.tasks.segment.recipes import (
    segment_small_data,
    segment_small_data_finetune,
    upernet_640_v1,
    upernet_640_v2,
    upernet_v1,
    upernet_v2,
)
from convnext.variants import VARIANTS, find_variant

SMALL = 20_000
"""Up to so many training images, the recipes for small data are the default."""

Recipe = Callable[[str], TrainConfig]
"""A model's name to a config; `InputError` for a model the recipe was not published for."""

RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        small_data, small_data_finetune, digits,
        finetune_v2, intermediate_22k_v2, finetune_22k_v2,
        scratch_v1, finetune_384_v1, scratch_22k_v1, finetune_22k_v1,
        fcmae, fcmae_small_data, fcmae_digits,
        detect_small_data, detect_small_data_finetune, mask_rcnn_v2, mask_rcnn_v1, cascade_v1,
        segment_small_data, segment_small_data_finetune, upernet_v2, upernet_640_v2, upernet_v1, upernet_640_v1,
    )
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`; `InputError` with the nearest names if there is none."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe '{name}'; {nearest(name, list(RECIPES))}")
    return RECIPES[name]


def build_config(name: str, model: str, kind: type[Config]) -> Config:
    """The recipe's config for a model. `InputError` for a recipe of another task."""
    find_variant(model)
    config = find_recipe(name)(model)
    if not isinstance(config, kind):
        fitting = [other for other in RECIPES if kind_of(other) is kind]
        raise InputError(f"recipe {name} is for `{command_of(name)}`; here: {', '.join(fitting)}")
    return dataclasses.replace(config, recipe=name)


def classify_recipe(model: str, *, images: int, trained: bool) -> str:
    """The recipe that suits the data: for small data up to `SMALL` images, else the paper's.

    `trained` says that the first weights learnt from labels.
    """
    if images <= SMALL:
        return "small_data_finetune" if trained else "small_data"
    return "finetune_v2" if find_variant(model).version == 2 else "scratch_v1"


def detect_recipe(model: str, *, images: int, trained: bool) -> str:
    """The detection recipe that suits the data: for small data up to `SMALL` images, else one published."""
    if images <= SMALL:
        return "detect_small_data_finetune" if trained else "detect_small_data"
    return "mask_rcnn_v2" if find_variant(model).version == 2 else "mask_rcnn_v1"


def segment_recipe(model: str, *, images: int, trained: bool) -> str:
    """The segmentation recipe that suits the data: for small data up to `SMALL` images, else one published."""
    if images <= SMALL:
        return "segment_small_data_finetune" if trained else "segment_small_data"
    return "upernet_v2" if find_variant(model).version == 2 else "upernet_v1"


def pretrain_recipe(*, images: int) -> str:
    """The pre-training recipe that suits the number of images."""
    return "fcmae_small_data" if images <= SMALL else "fcmae"


def kind_of(name: str) -> type[TrainConfig]:
    """The config a recipe returns."""
    return get_type_hints(find_recipe(name))["return"]


def command_of(name: str) -> str:
    """The command a recipe is for."""
    return {
        ClassifyConfig: "convnext train classify",
        PretrainConfig: "convnext pretrain",
        DetectConfig: "convnext train detect",
        SegmentConfig: "convnext train segment",
    }[kind_of(name)]


def models_of(name: str) -> list[str]:
    """The models a recipe takes."""
    taken = []
    for model in VARIANTS:
        try:
            find_recipe(name)(model)
        except InputError:
            continue
        taken.append(model)
    return taken
