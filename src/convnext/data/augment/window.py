"""Parts of images that augmentation takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from convnext.data.images.whole_image import Size, fit_size


@dataclass(frozen=True)
class Window:
    """A rectangle of an image, and the size it is scaled to."""

    top: int
    left: int
    height: int
    width: int
    size: Size


def random_window(height: int, width: int, *, side: int, short: float, long: float) -> Window:
    """A random crop of side `side` of an image scaled to a short side of `short` pixels, or a long one of at most
    `long`; all of it where it is smaller than the crop."""
    scaled = fit_size(height, width, max(1, round(short)), max(1, round(long)))
    inner = [min(side, length) for length in scaled]
    ratio = [length / whole for length, whole in zip((height, width), scaled, strict=True)]
    tall, wide = (max(1, round(length * r)) for length, r in zip(inner, ratio, strict=True))
    top, left = (int(torch.randint(rest + 1, ()).item()) for rest in (height - tall, width - wide))
    return Window(top, left, tall, wide, (inner[0], inner[1]))


def random_part(height: int, width: int, *, short: int, long: int) -> Window:
    """A random part of an image, 384 to 600 pixels high and wide where a short side is 400, 500 or 600, scaled to a
    short side of `short` pixels and a long one of at most `long` (DETR, arXiv 2005.12872, section 4)."""
    first = (400, 500, 600)[int(torch.randint(3, ()).item())]
    scaled = fit_size(height, width, first, long)
    inner = [int(torch.randint(min(384, length), min(600, length) + 1, ()).item()) for length in scaled]
    ratio = [length / whole for length, whole in zip((height, width), scaled, strict=True)]
    tall, wide = (max(1, round(length * r)) for length, r in zip(inner, ratio, strict=True))
    top, left = (int(torch.randint(rest + 1, ()).item()) for rest in (height - tall, width - wide))
    return Window(top, left, tall, wide, fit_size(tall, wide, short, long))


def crop_resized(pixels: Tensor, window: Window, interpolation: InterpolationMode) -> Tensor:
    """A window of `[C, H, W]`, scaled."""
    place = (window.top, window.left, window.height, window.width, list(window.size))
    return functional.resized_crop(pixels, *place, interpolation=interpolation, antialias=True)
