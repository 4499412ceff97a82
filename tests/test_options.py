"""Bounds of options."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from convnext import options
from convnext.config import TrainConfig
from convnext.errors import InputError
from convnext.options import Bounds
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.segment.config import SegmentConfig

TASKS = (ClassifyConfig, DepthConfig, DetectConfig, PretrainConfig, SegmentConfig)
CHECKED_WHERE_READ = {"crop", "frame_rate", "ignore_index"}
"""Options whose bounds data have too, which other commands read without a configuration."""


@pytest.mark.parametrize(
    ("bounds", "allowed", "refused"),
    [
        (options.AT_LEAST_ONE, (1, 10**9), (0, -1, math.nan)),
        (options.NOT_NEGATIVE, (0, 0.5), (-1e-9, math.inf, math.nan)),
        (options.POSITIVE, (1e-9, 7), (0, -1, math.inf, math.nan)),
        (options.ZERO_TO_ONE, (0, 0.5, 1), (-1e-9, 1.001, math.nan)),
        (options.BELOW_ONE, (0, 0.999), (-1e-9, 1, math.nan)),
        (options.ABOVE_ZERO, (1e-9, 1), (0, 1.001, math.nan)),
        (options.BETWEEN, (1e-9, 0.999), (0, 1, math.nan)),
        (options.RANGE, ((1, 1), (0.1, 2.0)), ((0, 1), (2, 1), (1, math.inf), (math.nan, 1), (1, math.nan))),
        (options.RANGE_OF_SHARES, ((1, 1), (0.1, 0.2)), ((0, 1), (0.2, 0.1), (0.5, 1.5), (0.5, math.nan))),
    ],
)
def test_bounds_hold_to_their_ends(bounds: Bounds, allowed: Sequence[Any], refused: Sequence[Any]) -> None:
    assert [bounds.allow(value) for value in (*allowed, *refused)] == [True] * len(allowed) + [False] * len(refused)


def takes_numbers(kind: Any) -> bool:
    return kind in (int, float) or any(takes_numbers(part) for part in get_args(kind))


@pytest.mark.parametrize("task", TASKS)
def test_every_number_has_bounds(task: type[TrainConfig]) -> None:
    numbers = {known.name for known in dataclasses.fields(task) if takes_numbers(task.types()[known.name])}
    bounded = {known.name for known in dataclasses.fields(task) if known.metadata["bounds"] is not None}
    assert bounded >= {"epochs", "seed", "hflip"}
    assert numbers - bounded <= CHECKED_WHERE_READ


@pytest.mark.parametrize(
    ("task", "name", "value", "message"),
    [
        (ClassifyConfig, "hflip", "7", "hflip must lie in [0, 1], not 7.0"),
        (ClassifyConfig, "crop_scale", "1,0.3", "crop_scale must be two numbers in (0, 1], the smaller first, not"),
        (ClassifyConfig, "label_smoothing", "1.5", "label_smoothing must lie in [0, 1], not 1.5"),
        (ClassifyConfig, "random_erasing", "-1", "random_erasing must lie in [0, 1], not -1.0"),
        (ClassifyConfig, "milestones", "9,3", "milestones must be two positive numbers, the smaller first, not (9, 3)"),
        (PretrainConfig, "crop_scale", "0,1", "crop_scale must be two numbers in (0, 1], the smaller first"),
        (DetectConfig, "vflip", "-0.5", "vflip must lie in [0, 1], not -0.5"),
        (DetectConfig, "colour", "nan", "colour must be finite, not nan"),
        (DetectConfig, "scale_jitter", "2,1", "scale_jitter must be two positive numbers, the smaller first, not"),
        (ClassifyConfig, "warmup_epochs", "inf", "warmup_epochs must be finite, not inf"),
        (DetectConfig, "short_sides", "800,480", "short_sides must be two positive numbers, the smaller first"),
        (SegmentConfig, "hflip", "1.5", "hflip must lie in [0, 1], not 1.5"),
        (SegmentConfig, "window", "0", "window must be at least 1, not 0; none: they are seen whole"),
        (SegmentConfig, "most_of_a_class", "0", "most_of_a_class must lie in (0, 1], not 0.0"),
        (DepthConfig, "depth_scale", "inf", "depth_scale must be finite, not inf"),
    ],
)
def test_values_outside_are_refused(task: type[TrainConfig], name: str, value: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        task().override({name: value})
    assert message in str(error.value)


def test_what_none_means_is_told_where_it_is_an_answer() -> None:
    assert options.meaning_of_none("largest norm; none: no clipping") == "; none: no clipping"
    assert options.meaning_of_none("as --lr says; at none of them: 1") == ""
    assert options.meaning_of_none("seed") == ""


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        (
            DetectConfig(scale_jitter=None),
            "image_size",
            "image_size must be left out at scale_jitter none: --short-sid",
        ),
        (DetectConfig(), "short_sides", "short_sides must be left out with scale_jitter: --image-size says how large"),
        (DetectConfig(), "random_crop", "random_crop must be left out with scale_jitter: --image-size says how large"),
        (ClassifyConfig(color_jitter=0.4), "color_jitter", "color_jitter must be left out beside RandAugment"),
    ],
)
def test_options_that_would_change_nothing_are_refused(config: TrainConfig, given: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        config.refuse_unused({given})
    assert message in str(error.value)
    config.refuse_unused({"epochs"})


def test_options_that_change_something_are_taken() -> None:
    DetectConfig().refuse_unused({"image_size"})
    DetectConfig(scale_jitter=None).refuse_unused({"short_sides", "random_crop"})
    ClassifyConfig(color_jitter=0.4, rand_augment=None).refuse_unused({"color_jitter"})
    ClassifyConfig().refuse_unused({"color_jitter"})  # 0 is what RandAugment leaves of it


def test_a_stored_value_outside_its_bounds_is_told_with_its_file() -> None:
    with pytest.raises(InputError, match=r"^config.json: hflip must lie in \[0, 1\], not 7.0"):
        ClassifyConfig.from_dict({**ClassifyConfig().to_dict(), "hflip": 7.0})
