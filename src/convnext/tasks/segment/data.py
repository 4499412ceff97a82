"""Augmentation for segmenters, which moves the labels with the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode, functional

from convnext.data.augment.photometric import change_colours
from convnext.data.augment.window import crop_resized, random_window
from convnext.data.images.decode import WHITE
from convnext.data.images.preprocessing import MEAN_COLOUR
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
            if (counts > 0).sum() > 1 and counts.max() <= self.most * counts.sum():
                break
        pixels = crop_resized(functional.pil_to_tensor(image), window, InterpolationMode.BILINEAR)
        if torch.rand(()).item() < self.hflip:
            pixels, crop = pixels.flip(2), crop.flip(2)
        if self.photometric:
            pixels = change_colours(pixels)
        below, right = self.size - crop.shape[1], self.size - crop.shape[2]
        pixels = functional.pad(pixels, [0, 0, right, below], fill=MEAN_COLOUR)
        return pixels, F.pad(crop[0], (0, right, 0, below), value=IGNORED)
