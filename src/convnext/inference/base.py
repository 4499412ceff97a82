"""Base class of predictors, which take images in any form, one or many, and answer in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from PIL import Image
from torch import nn

from convnext.errors import InputError

BATCH = 16
"""Images that go through a network together."""


class Predictor(ABC):
    """A trained model that answers about images.

    Args:
        model: the network.
        classes: their names, in the order of its outputs.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str]) -> None:
        self.model: Any = model.eval()
        self.classes = list(classes)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move the network to a device."""
        self.model.to(device)
        return self

    @abstractmethod
    def read(self, image: Any) -> Image.Image:
        """An image in the form that the model sees: a path, a binary file, a PIL image, a uint8 array `[H, W, 3]` or
        tensor `[3, H, W]`. `ImageError` for one that cannot be read."""

    @abstractmethod
    def see(
        self,
        image_size: int | None = None,
        crop: float | None = None,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> dict[str, Any]:
        """See images otherwise than the model was trained to; returns what differs, by name.

        Args:
            image_size: side of the images that a classifier sees, or short side of what others see, in pixels.
            crop: share of the resized image that a classifier's centre crop takes.
            scales: factors on the size; a segmenter's answers are averaged over them.
            flip: whether a segmenter averages in the mirrored image.
        """

    def each(self, images: Any, batch_size: int, answer: Callable[[list[Image.Image]], list[Any]]) -> Any:
        """The answer about one image, or a list of the answers about many, `batch_size` of them at a time."""
        if not isinstance(images, list | tuple):
            return answer([self.read(images)])[0]
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        firsts = range(0, len(images), batch_size)
        return [one for at in firsts for one in answer([self.read(image) for image in images[at : at + batch_size]])]


def refuse_views(scales: Sequence[float] | None, flip: bool) -> None:
    """`InputError` for several views of an image, which only segmenters take."""
    if scales is not None or flip:
        raise InputError("--scales and --flip are for segmenters")
