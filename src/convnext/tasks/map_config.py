"""Options that segmentation and depth share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convnext.config import SupervisedConfig
from convnext.options import AT_LEAST_ONE, BELOW_ONE, NOT_NEGATIVE, RANGE, ZERO_TO_ONE, option


@dataclass(frozen=True)
class MapConfig(SupervisedConfig):
    """A run with UperNet on square crops of images and of their maps; `image_size` is the crops' side."""

    fpn_dim: int = option(512, "channels of the pyramid network (UperNet)", group="model", within=AT_LEAST_ONE)
    aux_dim: int = option(256, "channels of the auxiliary head", group="model", within=AT_LEAST_ONE)
    aux_weight: float = option(0.4, "weight of the auxiliary head's loss", within=NOT_NEGATIVE)
    dropout: float = option(0.1, "dropout probability before the last layer", group="model", within=BELOW_ONE)
    head_norm: Literal["batch", "group"] = option(
        "batch", "normalisation in the head; group for batches of one or two images", group="model"
    )
    short_side: int = option(
        512,
        "short side of a training image before the crop, in pixels; --scale multiplies it",
        group="augmentation",
        within=AT_LEAST_ONE,
    )
    max_side: int = option(
        2048,
        "longest that the long side of an image may be, in pixels; --scale multiplies it in training",
        group="augmentation",
        within=AT_LEAST_ONE,
    )
    scale: tuple[float, float] = option(
        (0.5, 2.0), "smallest and largest random factor on a training image's size", group="augmentation", within=RANGE
    )
    hflip: float = option(
        0.5, "probability of a horizontal flip", group="augmentation", common=True, within=ZERO_TO_ONE
    )
    photometric: bool = option(
        True, "change brightness, contrast, saturation and hue of training images at random", group="augmentation"
    )
    test_size: int = option(
        512,
        "short side of images in evaluation and prediction, in pixels",
        group="model",
        common=True,
        within=AT_LEAST_ONE,
    )
