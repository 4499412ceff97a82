"""Progressive resizing: training begins on small images, which take less time, and ends on whole ones.

What a network learns from small images it keeps: from random weights, top-1 in equal minutes is higher by far
(`docs/results.md`). Known from fastai, and from EfficientNetV2 (arXiv 2104.00298, section 4).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

MOST_SIZES = 3
"""Sizes of a training, each for an equal part of it."""


def growing_sides(size: int, start: float, stride: int) -> list[int]:
    """Sides of training images, in pixels, one after another: from about `start` of `size` up to `size`.

    All but the last are multiples of the network's total `stride`, so that nothing of their maps is padding.
    """
    shares = [start + (1 - start) * part / (MOST_SIZES - 1) for part in range(MOST_SIZES - 1)]
    smaller = {stride * max(1, round(share * size / stride)) for share in shares}
    return [*sorted(side for side in smaller if side < size), size]


def side_at(done: float, sides: list[int]) -> int:
    """The one of `sides` that is trained on when a share `done` of the training is behind."""
    return sides[min(int(done * len(sides)), len(sides) - 1)]


def resized(images: Tensor, side: int) -> Tensor:
    """Images `[B, C, H, H]` to `[B, C, side, side]`, averaged where they shrink."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
