"""Random crops of images (Szegedy et al., Going deeper with convolutions, section 6), as the recipes take them."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

MOST_DRAWS = 10
"""Shapes that are drawn until one fits into the image; after them its middle is taken."""


class CropBox(NamedTuple):
    """A crop of an image of `width` × `height` pixels."""

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int


def random_crop(width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]) -> CropBox:
    """A crop whose share of the area lies in `scale`, and whose width to height lies in `ratio`, uniform in its
    logarithm. Where none fits, the largest in the middle. Draws from `random`, as timm does."""
    for _ in range(MOST_DRAWS):
        area = random.uniform(*scale) * (width * height)
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if wide <= width and tall <= height:
            top, left = random.randint(0, height - tall), random.randint(0, width - wide)
            break
    else:
        wide, tall = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
        top, left = (height - tall) // 2, (width - wide) // 2
    return CropBox(left, top, left + wide, top + tall, width, height)
