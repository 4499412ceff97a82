"""The affine warps of RandAugment: Pillow's pixels in a third of its time (`warp.c`). Images are in "L" or "RGB"."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from convnext.native import SOURCES
from convnext.native import compile as build

WARP_SOURCE = SOURCES / "warp.c"
Affine = tuple[float, float, float, float, float, float]


def warp_library() -> ctypes.CDLL | None:
    """The code, or None where it cannot be built."""
    return build.library(WARP_SOURCE)


def warp(
    image: Image.Image, matrix: Affine, resample: Image.Resampling, fillcolor: tuple[int, ...] | int
) -> Image.Image:
    """`Image.transform`: pixel (x, y) shows what lies at (a·x + b·y + c, d·x + e·y + f)."""
    code = warp_library()
    if code is None or resample != Image.Resampling.BICUBIC:
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fillcolor)
    pixels = np.array(image)
    height, width = pixels.shape[:2]
    fill = np.array(Image.new(image.mode, (1, 1), fillcolor))
    warped, scratch = np.empty_like(pixels), np.empty((height + 4, width + 4, 4), np.float32)
    arrays = (pixels, warped, scratch, np.array(matrix, np.float64), fill)
    sizes = (height, width, pixels.size // (height * width))
    code.warp(*[ctypes.c_void_p(array.ctypes.data) for array in arrays], *[ctypes.c_int64(size) for size in sizes])
    return Image.fromarray(warped)


def rotate(image: Image.Image, degrees: float, **how: Any) -> Image.Image:
    """About the centre."""
    x, y = image.width / 2, image.height / 2
    cos, sin = (round(f(-math.radians(degrees % 360)), 15) for f in (math.cos, math.sin))  # rounded as Pillow does
    return warp(image, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y), **how)


def shear_x(image: Image.Image, factor: float, **how: Any) -> Image.Image:
    return warp(image, (1, factor, 0, 0, 1, 0), **how)


def shear_y(image: Image.Image, factor: float, **how: Any) -> Image.Image:
    return warp(image, (1, 0, 0, factor, 1, 0), **how)


def shift_x(image: Image.Image, share: float, **how: Any) -> Image.Image:
    return warp(image, (1, 0, share * image.width, 0, 1, 0), **how)


def shift_y(image: Image.Image, share: float, **how: Any) -> Image.Image:
    return warp(image, (1, 0, 0, 0, 1, share * image.height), **how)


WARPS: dict[str, Callable[..., Image.Image]] = {
    "Rotate": rotate,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": shift_x,
    "TranslateYRel": shift_y,
}
"""By timm's names, with timm's arguments."""
