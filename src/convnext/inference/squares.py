"""Base class of predictors that see squares: images resized and cropped, or warped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from convnext.data.images.preprocessing import Preprocessing
from convnext.inference.base import Predictor, refuse_views

log = logging.getLogger("convnext")


class SeesSquares(Predictor):
    """A predictor that sees squares of one size."""

    transform: Preprocessing

    @property
    def preprocessing(self) -> Preprocessing:
        """The rule by which an image becomes the network's input."""
        return self.transform

    def see(
        self,
        image_size: int | None = None,
        crop: float | None = None,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> dict[str, Any]:
        refuse_views(scales, flip)
        before = self.transform
        if image_size is not None:
            self.transform = replace(self.transform, image_size=image_size)
        if crop is not None:
            self.transform = replace(self.transform, crop=crop)
        if self.transform != before:
            now = self.transform
            size, stored = f"{now.image_size} pixels, crop {now.crop:g}", f"{before.image_size}, {before.crop:g}"
            log.info("images are seen at %s; the model was trained for %s", size, stored)
        names = ("image_size", "crop")
        return {n: getattr(self.transform, n) for n in names if getattr(self.transform, n) != getattr(before, n)}

    def prepare(self, image: Image.Image) -> Tensor:
        """An image that `read` gave, preprocessed: `[C, H, W]`."""
        return self.transform(image)

    def batch(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Preprocessed images `[C, H, W]` as one tensor `[N, C, H, W]` on the network's device."""
        return (inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))).to(self.device)
