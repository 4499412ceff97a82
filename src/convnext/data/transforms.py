"""Augmentation for training: timm's transforms, which the recipes were tuned on."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageOps
from torch import Tensor

from convnext.data.preprocessing import Preprocessing
from convnext.errors import InputError


def train_transform(
    preprocessing: Preprocessing,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    hflip: float = 0.5,
    vflip: float = 0.0,
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    color_jitter: float = 0.0,
    random_erasing: float = 0.25,
) -> Callable[[Image.Image], Tensor]:
    """Pillow image in `preprocessing.mode` to an augmented, normalised float32 `[in_chans, image_size, image_size]`.

    A random crop of `scale` of the area and `ratio` of width to height, flips with the given probabilities,
    RandAugment by timm's string, colour jitter (only without RandAugment, as in timm), and random erasing of one
    rectangle by normal noise per pixel. Draws from `random`, `numpy.random` and torch's default generator.
    """
    from timm.data import create_transform

    size = preprocessing.image_size
    if rand_augment is not None and not rand_augment.startswith("rand"):
        raise InputError(f"rand_augment is a string such as rand-m9-mstd0.5-inc1, not {rand_augment!r}")
    transform = create_transform(
        input_size=(preprocessing.in_chans, size, size),
        is_training=True,
        scale=scale,
        ratio=ratio,
        hflip=hflip,
        vflip=vflip,
        auto_augment=rand_augment,
        color_jitter=color_jitter,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
        re_prob=random_erasing,
        re_mode="pixel",
    )
    for operation in (op for step in transform.transforms for op in getattr(step, "ops", ())):
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    # timm asks for 0 bits at the end of its scale. That gave black when the recipes were tuned; Pillow 13 refuses it.
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)
