"""Figures of robustness from metrics under corruptions.

Hendrycks and Dietterich, arXiv 1903.12261, section 4; Michaelis et al., arXiv 1907.07484, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from convnext.data.corruptions import COMMON

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's mean top-1 error over the five severities of ImageNet-C (the released code of arXiv 1903.12261)."""


class Robustness(NamedTuple):
    """Summary of a metric, in percent, over corruptions of the images.

    Args:
        clean: of images as they are; None where they were not measured.
        mean: over corruptions and severities (mPC).
        kept: `mean` as a share of `clean` (rPC); None without it, or where it is 0.
        mce: mean of the corruptions' errors, each as a share of AlexNet's; None where the classes are not ImageNet's,
            or not all fifteen corruptions at all five severities are measured.
        relative_error: mean of the corruptions' errors as a share of the clean one; None without it, or where it is 0.
    """

    clean: float | None
    mean: float
    kept: float | None
    mce: float | None
    relative_error: float | None


def robustness_of(clean: float | None, values: Mapping[str, Sequence[float]], *, imagenet: bool) -> Robustness:
    """Figures from a metric in percent, higher is better: of clean images, if known, and of corruptions by severity."""
    errors = {name: 100 - fmean(found) for name, found in values.items()}
    mean = fmean(fmean(found) for found in values.values())
    whole = all(len(values.get(name, ())) == 5 for name in COMMON)
    mce = fmean(errors[name] / ALEXNET[name] for name in COMMON) if imagenet and whole else None
    relative = 100 * fmean(errors.values()) / (100 - clean) if clean is not None and clean < 100 else None
    return Robustness(clean, mean, 100 * mean / clean if clean else None, mce, relative)
