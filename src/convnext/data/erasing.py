"""Random erasing (Zhong et al. 2017, arXiv 1708.04896), and the last step of training images."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Rectangle(NamedTuple):
    """What is erased of an image; its noise is drawn by `seed`."""

    top: int
    left: int
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class RandomErasing:
    """With `probability`, draws a rectangle of `area` of the image and `ratio` of height to width, by `random`."""

    probability: float
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def __call__(self, height: int, width: int) -> Rectangle | None:
        if random.random() > self.probability:
            return None
        low, high = map(math.log, self.ratio)
        for _ in range(10):  # until one fits
            area = random.uniform(*self.area) * height * width
            ratio = math.exp(random.uniform(low, high))
            tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if tall < height and wide < width:
                top, left = random.randint(0, height - tall), random.randint(0, width - wide)
                return Rectangle(top, left, tall, wide, random.getrandbits(63))
        return None


@dataclass(frozen=True)
class Finish:
    """Turns uint8 images `[B, C, H, W]` on any device into float32, normalised, with normal noise in the rectangles.

    Bytes are a quarter of what goes from the loading processes, and to a GPU.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    erased: tuple[Rectangle | None, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (self.mean, self.std))
        values = pixels.float().div_(255).sub_(mean).div_(std)
        noise = torch.Generator()  # the CPU's, so that a seed gives the same on every device
        for image, rectangle in zip(values, self.erased, strict=True):
            if rectangle is not None:
                top, left, tall, wide, seed = rectangle
                drawn = torch.randn(image.shape[0], tall, wide, generator=noise.manual_seed(seed))
                image[:, top : top + tall, left : left + wide] = drawn.to(image.device, non_blocking=True)
        return values
