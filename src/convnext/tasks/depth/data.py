"""Augmentation for depth estimators, which moves the depths with the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode

from convnext.data.augment.map_crop import square_crop
from convnext.data.augment.window import crop_resized, random_window
from convnext.data.images.decode import WHITE


@dataclass(frozen=True)
class DepthTransform:
    """Augments an image with its depths to a square crop.

    What is enlarged seems nearer: depths are divided by the factor on the image's size.

    Args:
        size: the crop's side.
        short: the image's short side before the crop, times `scale`; its long one is at most `long`, times as much.
        scale: a factor, from and to.
        hflip: probability of a flip.
        photometric: whether brightness, contrast, saturation and hue change, each with probability 1/2.
        white: the value of 16-bit images that is white.
    """

    size: int
    short: int
    long: int
    scale: tuple[float, float]
    hflip: float
    photometric: bool
    white: int = WHITE

    def __call__(self, image: Image.Image, depths: np.ndarray) -> tuple[Tensor, Tensor]:
        """uint8 `[3, size, size]` and float32 `[size, size]`, 0 where a depth is not known."""
        factor = torch.empty(()).uniform_(*self.scale).item()
        short, long = self.short * factor, self.long * factor
        window = random_window(image.height, image.width, side=self.size, short=short, long=long)
        crop = crop_resized(torch.from_numpy(depths)[None], window, InterpolationMode.NEAREST_EXACT) / factor
        return square_crop(image, crop, window, size=self.size, hflip=self.hflip, photometric=self.photometric, fill=0)
