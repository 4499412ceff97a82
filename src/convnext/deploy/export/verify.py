"""Whether an export computes what the network does, on real images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convnext.errors import InputError
from convnext.inference.base import Predictor
from convnext.inference.exported import ExportedNetwork

BOUNDS = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-2, "int8": sys.float_info.max}
"""Largest difference of an output, as a share of the range of the network's own. In int8 it is only finite."""
ODD = 1.37
"""Factor on the size of the second check, whose sides are no multiples of a stride."""


def verify(predictor: Predictor, exported: ExportedNetwork, images: Sequence[Image.Image], precision: str) -> float:
    """The largest difference between network and export, as a share of the outputs' range.

    One image at the size that the predictor sees, and all of them together at another one.

    Raises:
        InputError: it is beyond the bound of the precision, or not a number.
    """
    worst = 0.0
    for inputs in checked_inputs(predictor, images):
        with torch.inference_mode():
            expected = predictor.compute(predictor.model, inputs)
        found = exported.run(inputs)
        for name, own in zip(predictor.outputs, expected, strict=True):
            worst = max(worst, share_of_range(own, found[name]))
    if worst > BOUNDS[precision]:
        if not np.isfinite(worst):
            raise InputError("the export is not written: its outputs are not finite")
        raise InputError(
            f"the export is not written: it differs from the network by {worst:.1e} of its outputs' range, and "
            f"{BOUNDS[precision]:g} is allowed in {precision}"
        )
    return worst


def share_of_range(own: Tensor, found: Tensor) -> float:
    """Largest difference of an output from the network's own, as a share of its range; infinite if not a number.

    The one logit an image of a model of one class has no range of its own, and counts as having one of at least 1.
    """
    least = 1.0 if own.ndim == 2 and own.shape[1] == 1 else 1e-6
    share = float((own - found).abs().max() / (own.max() - own.min()).clamp(min=least))
    return share if np.isfinite(share) else float("inf")


def checked_inputs(predictor: Predictor, images: Sequence[Image.Image]) -> list[Tensor]:
    """Transformed images: `[1, C, H, W]`, and `[N, C, h, w]` of another size and shape."""
    transformed = [predictor.transform(image) for image in images]
    first = transformed[0]
    size = (round(ODD * first.shape[1]) // 2 * 2 + 1, round(ODD * first.shape[2] * 1.2) // 2 * 2 + 1)
    several = [F.interpolate(each[None], size=size, mode="nearest-exact") for each in transformed]
    return [first[None], torch.cat(several)]


def made_up_images(count: int, mode: Any) -> list[Image.Image]:
    """Smooth random images of 300×240 pixels, for want of others."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((300, 240), Image.Resampling.BICUBIC).convert(mode) for each in small]
