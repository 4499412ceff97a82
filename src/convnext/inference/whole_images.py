"""Base class of detectors and segmenters, which see whole images, resized to a short side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from convnext.data.images.whole_image import Size, WholeImage
from convnext.errors import InputError, WeightsError
from convnext.inference.base import Predictor, refuse_views
from convnext.printing import first_names

log = logging.getLogger("convnext")

RENAMED_PARTS = {
    "agnostic": "class_agnostic",
    "dim": "fpn_dim",
    "linear": "linear_dim",
    "norm": "head_norm",
    "regions": "rois_per_image",
    "soft": "soft_nms",
}
"""Names of networks' arguments in weight files of before, and what they are called today."""


class SeesWholeImages(Predictor):
    """A predictor that sees whole images, their short side of so many pixels.

    An embedding is the mean over positions of the backbone's last map, under the norm that the network puts on it.
    """

    transform: WholeImage

    def prepare(self, image: Image.Image) -> tuple[Tensor, Size]:
        """An image that `read` gave as the network's input `[3, h, w]`, and its own size."""
        return self.transform(image), (image.height, image.width)

    @property
    def width(self) -> int:
        return self.model.backbone.dims[-1]

    def features(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        # One by one: images have sizes of their own.
        maps = [self.model.backbone(image.to(self.device)[None])[-1] for image in inputs]
        return torch.cat([self.model.norms[-1](last).mean(dim=(1, 2)) for last in maps])

    def see(
        self,
        image_size: int | None = None,
        crop: float | None = None,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> dict[str, Any]:
        if crop is not None:
            raise InputError("--crop is for classifiers: others see whole images")
        refuse_views(scales, flip)
        if image_size is None or image_size == self.transform.short:
            return {}
        self.transform = self.transform.resized(image_size)
        return {"image_size": image_size}


def arguments_of(meta: dict[str, Any]) -> dict[str, Any]:
    """Arguments that build a detector or segmenter again, by the names they have today."""
    return {RENAMED_PARTS.get(name, name): value for name, value in meta["parts"].items()}


def fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a network that was built on the meta device its weights, for inference.

    `WeightsError` for tensors that are missing or misshapen; those it has no place for are named in the log.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    misshapen = [name for name in own if name in state and state[name].shape != own[name].shape]
    for kind, names in (("lack", missing), ("have another shape of", misshapen)):
        if names:
            raise WeightsError(f"the weights {kind} {first_names(names, 3)}")
    if unused := sorted(state.keys() - own.keys()):
        log.info("not used of the weights: %s", ", ".join(unused))
    model.load_state_dict({name: state[name] for name in own}, assign=True)
    model.requires_grad_(False)
