"""Augmentation for segmenters, which moves the labels with the pixels."""

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
from convnext.data.sources.label_maps import IGNORED

TRIES = 10


@dataclass(frozen=True)
class SegmentationTransform:
    """Augments an image with its labels to a square crop.

    Args:
        size: the crop's side.
        short: the image's short side before the crop, times `scale`; its long one is at most `long`, times as much.
        scale: a factor, from and to.
        most: the share of a crop that one class may have; it is drawn again, ten times at most, where one has more.
        hflip: probability of a flip.
        photometric: whether brightness, contrast, saturation and hue change, each with probability 1/2.
        white: the value of 16-bit images that is white.
    """

    size: int
    short: int
    long: int
    scale: tuple[float, float]
    most: float
    hflip: float
    photometric: bool
    white: int = WHITE

    def __call__(self, image: Image.Image, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """uint8 `[3, size, size]` and int16 `[size, size]`."""
        truth = torch.from_numpy(labels)[None]
        factor = torch.empty(()).uniform_(*self.scale).item()
        for _ in range(TRIES):
            window = random_window(
                image.height, image.width, side=self.size, short=self.short * factor, long=self.long * factor
            )
            crop = crop_resized(truth, window, InterpolationMode.NEAREST_EXACT)
            counts = crop[crop != IGNORED].long().bincount()
            if self.most >= 1 or ((counts > 0).sum() > 1 and counts.max() <= self.most * counts.sum()):
                break
        return square_crop(
            image, crop, window, size=self.size, hflip=self.hflip, photometric=self.photometric, fill=IGNORED
        )
