"""Changes of brightness, contrast, saturation and hue, for images whose pixels have a map."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

PHOTOMETRIC = [
    v2.RandomApply([v2.ColorJitter(**{name: strength})])
    for name, strength in {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}.items()
]
"""Changes of colour as published for ADE20K; torchvision's `RandomPhotometricDistort` also permutes the colours."""


def change_colours(pixels: Tensor) -> Tensor:
    """uint8 `[3, H, W]` with each of the four changed with probability 1/2."""
    for change in PHOTOMETRIC:
        pixels = change(pixels)
    return pixels
