"""Square crops of images that have a map, such as labels or depths."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode, functional

from convnext.data.augment.photometric import change_colours
from convnext.data.augment.window import Window, crop_resized
from convnext.data.images.preprocessing import MEAN_COLOUR


def square_crop(
    image: Image.Image, cut: Tensor, window: Window, *, size: int, hflip: float, photometric: bool, fill: int
) -> tuple[Tensor, Tensor]:
    """A window of an image, uint8 `[3, size, size]`, and what was cut out of its map there, `[size, size]`.

    Draws a flip first and other colours then, from torch's default generator.

    Args:
        image: the whole image.
        cut: the window of its map, `[1, H, W]`.
        window: of both.
        size: the side that they are filled up to.
        hflip: probability of a flip.
        photometric: whether brightness, contrast, saturation and hue change, each with probability 1/2.
        fill: the map's value where there is no image.
    """
    pixels = crop_resized(functional.pil_to_tensor(image), window, InterpolationMode.BILINEAR)
    if torch.rand(()).item() < hflip:
        pixels, cut = pixels.flip(2), cut.flip(2)
    if photometric:
        pixels = change_colours(pixels)
    below, right = size - cut.shape[1], size - cut.shape[2]
    pixels = functional.pad(pixels, [0, 0, right, below], fill=MEAN_COLOUR)
    return pixels, F.pad(cut[0], (0, right, 0, below), value=fill)
