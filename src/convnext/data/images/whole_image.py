"""The rule by which detectors and segmenters see an image: whole, at a short side, by ImageNet's statistics."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from convnext.data.images.decode import WHITE
from convnext.data.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, MOST_PIXELS_A_SIDE, MOST_RESIZED
from convnext.errors import ImageError, InputError

log = logging.getLogger("convnext")

Size = tuple[int, int]
"""Height and width."""
_SAID = {"short": "short side, in pixels,", "long": "long side, in pixels,", "white": "value of white"}


def fit_size(height: int, width: int, short: int, long: int) -> Size:
    """The size at which the short side has `short` pixels, or fewer so that the long one has at most `long`."""
    scale = min(short / min(height, width), long / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def normalise(pixels: Tensor) -> Tensor:
    """uint8 `[3, h, w]` to float32 by ImageNet's statistics."""
    return functional.normalize(pixels.float() / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))


@dataclass(frozen=True)
class WholeImage:
    """An image as a trained detector sees it: whole, its short side of `short` pixels or the long one of `long`.

    `white` is the value of 16-bit images that is white. `antialias` is whether an image that is made smaller is blurred
    by as much.
    """

    mode: ClassVar[str] = "RGB"
    """The Pillow mode of the images it takes."""

    short: int
    long: int
    white: int = WHITE
    antialias: bool = True

    def __post_init__(self) -> None:
        for name, most in (("short", MOST_PIXELS_A_SIDE), ("long", None), ("white", WHITE)):
            value = getattr(self, name)
            if type(value) is not int or value < 1 or (most is not None and value > most):
                within = "be at least 1" if most is None else f"lie between 1 and {most}"
                raise InputError(f"an image's {_SAID[name]} must {within}, not {value!r}")

    def __call__(self, image: Image.Image) -> Tensor:
        height, width = fit_size(image.height, image.width, self.short, self.long)
        if height * width > MOST_RESIZED:
            raise ImageError(f"image of {image.width}×{image.height} pixels is too large at {width}×{height} pixels")
        size = [height, width]
        return normalise(functional.resize(functional.pil_to_tensor(image), size, antialias=self.antialias))

    def resized(self, short: int) -> WholeImage:
        """A transform to another short side, in pixels, with the limit of the long side in the same proportion."""
        other = replace(self, short=short, long=max(1, round(self.long * short / self.short)))
        if short != self.short:
            log.info("images are seen at a short side of %d pixels; the model was trained for %d", short, self.short)
        return other
