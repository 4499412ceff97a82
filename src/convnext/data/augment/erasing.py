"""Random erasing (Zhong et al. 2017, arXiv 1708.04896), and the last step of training images."""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Rectangle(NamedTuple):
    """Erased rectangle of an image; its noise is drawn by `seed`."""

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


class NormalizeAndErase:
    """Turns uint8 images `[B, C, H, W]` on any device into float32, normalised, with normal noise in the rectangles.

    Bytes are a quarter of what goes from the loading processes, and to a GPU. The noise is drawn where this is made, by
    the processes that load, on the CPU: a seed gives the same for every device.

    Args:
        mean: of each channel.
        std: of each channel.
        erased: of each image, what is erased of it; without, nothing is of any.
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], erased: tuple[Rectangle | None, ...] = ()
    ) -> None:
        self.mean, self.std = mean, std
        self.rectangles = [(image, rectangle) for image, rectangle in enumerate(erased) if rectangle is not None]
        noise = torch.Generator()
        drawn = [
            torch.randn(len(mean), r.height, r.width, generator=noise.manual_seed(r.seed)).flatten()
            for _, r in self.rectangles
        ]
        self.noise = torch.cat(drawn) if drawn else torch.empty(0)

    def pin_memory(self) -> NormalizeAndErase:
        """Put the noise into pinned memory, so that its copy to a GPU is asynchronous; PyTorch's loader calls this."""
        self.noise = self.noise.pin_memory()
        return self

    def __call__(self, pixels: Tensor) -> Tensor:
        mean, std = (constants(v, pixels.device) for v in (self.mean, self.std))
        values = pixels.float().div_(255).sub_(mean).div_(std)
        noise, first = self.noise.to(pixels.device, non_blocking=True), 0
        for image, (top, left, tall, wide, _) in self.rectangles:
            count = values.shape[1] * tall * wide
            values[image, :, top : top + tall, left : left + wide] = noise[first : first + count].view(-1, tall, wide)
            first += count
        return values


@functools.lru_cache(maxsize=16)
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """The values of the channels as `[C, 1, 1]` on a device, copied there once: each copy would wait for the GPU."""
    return torch.tensor(values, device=device)[:, None, None]
