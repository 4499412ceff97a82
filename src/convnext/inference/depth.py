"""From a trained depth estimator to the depths of images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.data.images.preprocessing import is_finite
from convnext.data.images.whole_image import Size, WholeImage
from convnext.errors import InputError
from convnext.inference.whole_images import SeesWholeImages, arguments_of, fill
from convnext.models.segmentation.upernet import UperNet, create_segmenter, resize_map


@dataclass(frozen=True)
class DepthUnit:
    """Unit of a network's output: depths, or with `by_log` their logarithms, less `mean` and divided by `std`.
    `InputError` for a mean that is no number, or a deviation that is none above 0."""

    by_log: bool
    mean: float
    std: float

    def __post_init__(self) -> None:
        if not is_finite(self.mean) or not is_finite(self.std) or self.std <= 0:
            raise InputError(f"depths have a finite mean and a deviation above 0, not {self.mean!r} and {self.std!r}")

    def of_depths(self, depths: Tensor) -> Tensor:
        """Positive depths in this unit."""
        return ((depths.log() if self.by_log else depths) - self.mean) / self.std

    def to_depths(self, outputs: Tensor) -> Tensor:
        """Depths, of a network's outputs; never negative."""
        values = outputs * self.std + self.mean
        return values.exp() if self.by_log else values.clamp(min=0)


class DepthEstimator(SeesWholeImages):
    """Says of every pixel how far away it is.

    Args:
        model: the network, with one output.
        transform: how an image becomes its input.
        unit: of its output.
        depth_scale: the number in a depth map of the training data that is one unit of depth.
    """

    outputs = ("depths",)

    def __init__(self, model: UperNet, transform: WholeImage, unit: DepthUnit, *, depth_scale: float) -> None:
        if not is_finite(depth_scale) or depth_scale <= 0:
            raise InputError(f"depth_scale must be a finite number above 0, not {depth_scale!r}")
        super().__init__(model, (), transform)
        self.unit, self.depth_scale = unit, depth_scale

    def __call__(self, images: Any, *, batch_size: int = 1) -> Any:
        """The depths of one image, float32 `[H, W]` in the unit of the training data, or a list of those of many.

        An image is a path, an address, a binary file, a file's bytes, a PIL image, or pixels as an array or tensor.
        Images have sizes of their own and go through the network one by one; `batch_size` is how many are read ahead,
        at least one a core. `ImageError` for an image that cannot be read.
        """
        return self.each(images, batch_size, self.prepare, lambda prepared: [self.estimate(*one) for one in prepared])

    @torch.inference_mode()
    def estimate(self, inputs: Tensor, size: Size) -> np.ndarray:
        """Depths, of this size, of a transformed image `[3, h, w]`."""
        outputs = self.model(inputs.to(self.device)[None]).float()
        return self.unit.to_depths(resize_map(outputs, size)[0, 0]).cpu().numpy()


def least_median_most(depths: np.ndarray) -> tuple[float, float, float]:
    """The smallest, the middle and the largest of depths, to the digits of fp32."""
    least, median, most = (float(np.float32(value)) for value in np.quantile(depths, (0, 0.5, 1)))
    return least, median, most


def draw_depths(depths: np.ndarray) -> Image.Image:
    """Depths `[H, W]` in colours: near things are bright."""
    from matplotlib import colormaps

    low, high = float(depths.min()), float(depths.max())
    shares = (depths - low) / max(high - low, 1e-9)
    return Image.fromarray((255 * colormaps["magma_r"](shares)[..., :3]).round().astype(np.uint8))


def build_depth_estimator(state: dict[str, Tensor], meta: dict[str, Any]) -> DepthEstimator:
    """The depth estimator whose weights and description a run stored."""
    with torch.device("meta"):
        model = create_segmenter(meta["model"], num_classes=1, **arguments_of(meta))
    fill(model, state)
    return depth_estimator_of(model, meta)


def depth_estimator_of(model: Any, meta: dict[str, Any]) -> DepthEstimator:
    """The depth estimator on a network, as its metadata describe it."""
    depth = dict(meta["depth"])
    scale = depth.pop("depth_scale")
    return DepthEstimator(model, WholeImage(**meta["transform"]), DepthUnit(**depth), depth_scale=scale)
