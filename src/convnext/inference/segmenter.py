"""From a trained segmenter to label maps of images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convnext.data.images.whole_image import Size, WholeImage
from convnext.errors import InputError
from convnext.inference.arrays import area_arrays
from convnext.inference.whole_images import SeesWholeImages, arguments_of, fill
from convnext.inference.windows import starts
from convnext.models.segmentation.upernet import UperNet, create_segmenter, resize_map

ENLARGED = 2**26
"""Values of logits that are held at the image's size at once."""


class Segmenter(SeesWholeImages):
    """Says of every pixel what it shows.

    Args:
        model: the network.
        classes: their names.
        transform: how an image becomes its input.
        window: side of a square that slides over the input, None to see it whole.
        stride: its steps.
        scales: of the input, whose probabilities are averaged.
        flip: whether the mirrored image is averaged in too.
    """

    outputs = ("logits",)

    def __init__(
        self,
        model: UperNet,
        classes: Sequence[str],
        transform: WholeImage,
        *,
        window: int | None = None,
        stride: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        super().__init__(model, classes, transform)
        self.window, self.stride = window, stride or (None if window is None else max(1, window * 2 // 3))
        self.scales, self.flip = tuple(scales), flip

    def __call__(self, images: Any, *, batch_size: int = 1) -> Any:
        """The label map of one image, uint16 `[H, W]`, or a list of the label maps of each of many: positions among
        `classes`.

        An image is a path, an address, a binary file, a file's bytes, a PIL image, or pixels as an array or tensor.
        Images have sizes of their own and go through the network one by one; `batch_size` is how many are read ahead,
        at least one a core. `ImageError` for an image that cannot be read.
        """
        return self.each(images, batch_size, self.prepare, lambda prepared: [self.label(*one) for one in prepared])

    def arrays(self, images: Any, *, batch_size: int = 1) -> Any:
        """The areas of each class as `DetectionArrays` of one image, or a list of them for many: what
        `supervision.Detections` takes, `Detections(**segmenter.arrays(image))`."""
        return self.each(
            images,
            batch_size,
            self.prepare,
            lambda prepared: [area_arrays(self.classes, self.label(*one)) for one in prepared],
        )

    def see(
        self,
        image_size: int | None = None,
        crop: float | None = None,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> dict[str, Any]:
        if scales is not None and not (scales and all(0 < scale < math.inf for scale in scales)):
            raise InputError(f"--scales takes positive numbers, not '{','.join(map(str, scales))}'")
        self.scales, self.flip = tuple(scales or self.scales), flip
        return super().see(image_size, crop)

    def label(self, inputs: Tensor, size: Size) -> np.ndarray:
        """The label map, of this size, of a transformed image `[3, h, w]`."""
        return label_at(self.scores(inputs), size)

    @torch.inference_mode()
    def scores(self, inputs: Tensor) -> Tensor:
        """Logits `[classes, h, w]` of a transformed image `[3, h, w]`; of several views, mean probabilities."""
        whole = inputs.to(self.device)[None]
        height, width = whole.shape[2:]
        views = []
        for scale in self.scales:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            scaled = whole if scale == 1 else resize_map(whole, size)
            for mirrored in (False, True) if self.flip else (False,):
                view = self.slide(scaled.flip(3) if mirrored else scaled)
                views.append(resize_map(view.flip(3) if mirrored else view, (height, width)))
        if len(views) == 1:
            return views[0][0]
        return torch.stack([view.softmax(1) for view in views]).mean(0)[0]

    def slide(self, inputs: Tensor) -> Tensor:
        """Logits of `[1, 3, h, w]`, the mean over the windows that see a pixel."""
        if self.window is None or self.stride is None or max(inputs.shape[2:]) <= self.window:
            return self.model(inputs).float()
        window, (height, width) = self.window, inputs.shape[2:]
        total = inputs.new_zeros(1, len(self.classes), height, width, dtype=torch.float32)
        seen = inputs.new_zeros(1, 1, height, width)
        for top in starts(height, window, self.stride):
            for left in starts(width, window, self.stride):
                part = (..., slice(top, top + window), slice(left, left + window))
                total[part] += self.model(inputs[part]).float()
                seen[part] += 1
        return total / seen


def label_at(scores: Tensor, size: Size) -> np.ndarray:
    """The best class of each pixel, uint16 `[H, W]`, of scores `[classes, h, w]` that are scaled bilinearly to `size`.

    Some rows at a time: a large image's scores would not fit in memory.
    """
    classes, height, _ = scores.shape
    rows = max(1, ENLARGED // (classes * size[1]))
    # As bilinear interpolation along the height does: centres of pixels, clamped at the ends.
    centre = ((torch.arange(size[0], device=scores.device) + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1)
    above = centre.floor().long()
    below, share = (above + 1).clamp(max=height - 1), centre - above
    parts = []
    for first in range(0, size[0], rows):
        here = slice(first, first + rows)
        part = torch.lerp(scores[:, above[here]], scores[:, below[here]], share[here][None, :, None])
        wide = F.interpolate(part[None], size=(part.shape[1], size[1]), mode="bilinear", align_corners=False)
        parts.append(wide[0].argmax(0).to(torch.int32).cpu())
    return torch.cat(parts).numpy().astype(np.uint16)


def build_segmenter(state: dict[str, Tensor], meta: dict[str, Any]) -> Segmenter:
    """The segmenter whose weights and description a run stored."""
    with torch.device("meta"):
        model = create_segmenter(meta["model"], num_classes=len(meta["classes"]), **arguments_of(meta))
    fill(model, state)
    return segmenter_of(model, meta)


def segmenter_of(model: Any, meta: dict[str, Any]) -> Segmenter:
    """The segmenter on a network, as its metadata describe it."""
    return Segmenter(model, meta["classes"], WholeImage(**meta["transform"]), **meta["testing"])
