"""Augmentation for training: timm's transforms, which the recipes were tuned on, and faster crops and warps."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from convnext.data.augment import warp
from convnext.data.augment.erasing import NormalizeAndErase, RandomErasing, Rectangle
from convnext.data.augment.random_crop import CropBox, random_crop
from convnext.data.images.encoded import DecodedImage, EncodedImage
from convnext.data.images.preprocessing import Preprocessing
from convnext.errors import InputError

_POLICY = re.compile(r"rand(-(m|n|mstd|mmax|w|inc|t|p)\d+(\.\d+)?)*")  # timm passes over what it does not know

MARGIN = 2
"""How many times larger than needed a reduced image is at least; from there on Pillow calls it nearly the same."""
RATIO = (3 / 4, 4 / 3)
"""Width to height of crops, from the least to the most."""


class Augmented(NamedTuple):
    """An image before its last step, `NormalizeAndErase`: uint8 `[C, size, size]`, and what is to be erased."""

    pixels: Tensor
    erased: Rectangle | None


class TrainTransform:
    """An image to an augmented, normalised float32 `[C, size, size]`: a random crop, what is done to it, erasing."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        scale: tuple[float, float],
        hflip: float,
        augment: Sequence[Callable[[Image.Image], Image.Image]],
        erasing: RandomErasing,
    ) -> None:
        """`scale` is `random_crop`'s; `hflip` is the probability of a horizontal flip."""
        self.size, self.interpolation = preprocessing.image_size, preprocessing.interpolation
        self.scale, self.hflip, self.augment, self.erasing = scale, hflip, augment, erasing
        self.mean, self.std, self.white = preprocessing.mean, preprocessing.std, preprocessing.white

    def __call__(self, image: Image.Image) -> Tensor:
        """Augment an image that is decoded."""
        pixels, erased = self.reading(DecodedImage(image))
        return self.finish([erased])(pixels[None])[0]

    def finish(self, erased: Iterable[Rectangle | None]) -> NormalizeAndErase:
        """The last step, for a batch of what `reading` returns."""
        return NormalizeAndErase(self.mean, self.std, tuple(erased))

    def reading(self, image: EncodedImage | DecodedImage) -> Augmented:
        """Decode an image no larger than its crop has to be, and augment it."""
        box = self.draw(*image.size)
        return self.augmented(image.decode(self.reduction(box)), box)

    def reduction(self, box: CropBox) -> int:
        """How many times smaller the image may be of which a crop is taken: 1, 2, 4 or 8."""
        larger = min(box.right - box.left, box.bottom - box.top) / self.size
        return max(factor for factor in (1, 2, 4, 8) if factor == 1 or larger >= factor * MARGIN)

    def draw(self, width: int, height: int) -> CropBox:
        """A random crop."""
        return random_crop(width, height, self.scale, RATIO)

    def augmented(self, image: Image.Image | Tensor, box: CropBox) -> Augmented:
        """Crop and augment an image, which may be smaller than the one the box was drawn for."""
        width, height = size_of(image)
        x, y = width / box.width, height / box.height
        left, top = min(int(box.left * x), width - 1), min(int(box.top * y), height - 1)
        right, bottom = max(round(box.right * x), left + 1), max(round(box.bottom * y), top + 1)
        if isinstance(image, Tensor):
            pixels = image[:, top:bottom, left:right]
        else:
            pixels = to_pixels(image.crop((left, top, right, bottom)))
        pixels = resize_image(pixels, self.size, self.interpolation)
        if self.hflip and random.random() < self.hflip:
            pixels = pixels.flip(-1)
        if self.augment:
            image = to_image(pixels)
            for step in self.augment:
                image = step(image)
            pixels = to_pixels(image)
        return Augmented(pixels, self.erasing(self.size, self.size))


def resize_image(pixels: Tensor, size: int, interpolation: str) -> Tensor:
    """Warp uint8 `[C, H, W]` to `[C, size, size]`: but for rounding as Pillow does, whose bicubic takes five times as
    long."""
    if interpolation not in ("bilinear", "bicubic"):
        return to_pixels(to_image(pixels).resize((size, size), Image.Resampling[interpolation.upper()]))
    scaled = torch.empty((1, pixels.shape[0], size, size), dtype=torch.uint8, memory_format=torch.channels_last)
    operator = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa")  # F.interpolate knows no `out`
    return operator.out(pixels[None], (size, size), False, None, None, out=scaled)[0]


def size_of(image: Image.Image | Tensor) -> tuple[int, int]:
    """Width and height."""
    return (image.shape[2], image.shape[1]) if isinstance(image, Tensor) else image.size


def to_pixels(image: Image.Image) -> Tensor:
    """uint8 `[C, H, W]`."""
    return torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1).permute(2, 0, 1)


def to_image(pixels: Tensor) -> Image.Image:
    """The inverse of `to_pixels`."""
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).contiguous().numpy())


def train_transform(
    preprocessing: Preprocessing,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    hflip: float = 0.5,
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    color_jitter: float = 0.0,
    random_erasing: float = 0.25,
) -> TrainTransform:
    """For Pillow images in `preprocessing.mode`.

    A random crop of `scale` of the area, a horizontal flip with the given probability, RandAugment by timm's string,
    colour jitter (only without RandAugment, as in timm), and random erasing of one rectangle by normal noise per pixel.
    Draws from `random`, `numpy.random` and torch's default generator.
    """
    if rand_augment is not None and not _POLICY.fullmatch(rand_augment):
        raise InputError(f"rand_augment is a string such as rand-m9-mstd0.5-inc1, not {rand_augment!r}")
    # timm takes a second or two to import, so only where it has something to do.
    augment = timm_augmentation(preprocessing, rand_augment, color_jitter) if rand_augment or color_jitter else []
    return TrainTransform(
        preprocessing,
        scale=scale,
        hflip=hflip,
        augment=augment,
        erasing=RandomErasing(random_erasing),
    )


def timm_augmentation(
    preprocessing: Preprocessing, rand_augment: str | None, color_jitter: float
) -> list[Callable[[Image.Image], Image.Image]]:
    """timm's RandAugment, or its colour jitter, as steps on a cropped Pillow image."""
    from timm.data import create_transform
    from timm.data.auto_augment import RandAugment
    from timm.data.transforms import MaybeToTensor

    size = preprocessing.image_size
    steps = create_transform(
        input_size=(preprocessing.in_chans, size, size),
        is_training=True,
        hflip=0.0,
        vflip=0.0,
        auto_augment=rand_augment,
        # Of 0 it would be a step that does nothing, slowly.
        color_jitter=color_jitter or None,  # type: ignore[arg-type]  # timm takes None, which its types leave out
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
    ).transforms
    mend_posterize(steps)
    if rand_augment is not None:
        warp.warp_library()  # built or loaded here rather than in every loading process
    for operation in operations(steps):
        operation.aug_fn = warp.WARPS.get(operation.name, operation.aug_fn)
    to_tensor = next(place for place, step in enumerate(steps) if isinstance(step, MaybeToTensor))
    return [partial(random_operations, step) if isinstance(step, RandAugment) else step for step in steps[1:to_tensor]]


def random_operations(step: Any, image: Image.Image) -> Image.Image:
    """timm's RandAugment, which draws its operations by `np.random.choice` in 40 µs."""
    if step.choice_weights is not None:
        return step(image)
    for operation in random.choices(step.ops, k=step.num_layers):
        image = operation(image)
    return image


def operations(steps: Iterable[Any]) -> Iterator[Any]:
    """Operations of RandAugment."""
    return (operation for step in steps for operation in getattr(step, "ops", ()))


def mend_posterize(steps: Iterable[Any]) -> None:
    """timm asks for 0 bits at the end of its scale: black when the recipes were tuned, an error from Pillow 13 on."""
    for operation in operations(steps):
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)
