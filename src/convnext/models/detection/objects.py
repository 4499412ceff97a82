"""Objects of an image, from which a detector learns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Objects(NamedTuple):
    """In an image: x0, y0, x1, y1 `[n, 4]`, labels `[n]`, and uint8 masks `[n, H, W]`, or `[0, H, W]` without."""

    boxes: Tensor
    labels: Tensor
    masks: Tensor
