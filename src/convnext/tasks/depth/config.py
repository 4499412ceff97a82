"""Options of a depth run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from convnext.config import SupervisedConfig
from convnext.options import AT_LEAST_ONE, BELOW_ONE, NOT_NEGATIVE, POSITIVE, RANGE, ZERO_TO_ONE, option


@dataclass(frozen=True)
class DepthConfig(SupervisedConfig):
    """A depth run; `image_size` is the side of the crops."""

    TASK: ClassVar[str] = "depth"
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch", "stratify")

    depth_scale: float = option(
        1000.0,
        "value in a depth map that stands for 1 (a metre): 1000 where maps hold millimetres, 256 for KITTI's files",
        group="data",
        common=True,
        within=POSITIVE,
    )
    fpn_dim: int = option(512, "channels of the pyramid network (UperNet)", group="model", within=AT_LEAST_ONE)
    aux_dim: int = option(256, "channels of the auxiliary head", group="model", within=AT_LEAST_ONE)
    aux_weight: float = option(0.4, "weight of the auxiliary head's loss", within=NOT_NEGATIVE)
    dropout: float = option(0.0, "dropout probability before the last layer", group="model", within=BELOW_ONE)
    head_norm: Literal["batch", "group"] = option(
        "batch", "normalisation in the head; group for batches of one or two images", group="model"
    )
    short_side: int = option(
        480,
        "short side of a training image before the crop, in pixels; --scale multiplies it",
        group="augmentation",
        within=AT_LEAST_ONE,
    )
    max_side: int = option(
        1920,
        "longest that the long side of an image may be, in pixels; --scale multiplies it in training",
        group="augmentation",
        within=AT_LEAST_ONE,
    )
    scale: tuple[float, float] = option(
        (1.0, 1.5),
        "smallest and largest random factor on a training image's size, by which its depths are divided",
        group="augmentation",
        within=RANGE,
    )
    hflip: float = option(
        0.5, "probability of a horizontal flip", group="augmentation", common=True, within=ZERO_TO_ONE
    )
    photometric: bool = option(
        True, "change brightness, contrast, saturation and hue of training images at random", group="augmentation"
    )
    loss: Literal["l1", "log_l1"] = option(
        "log_l1",
        "l1: error of the depths; log_l1: error of their logarithms, which weighs near things more",
        common=True,
    )
    test_size: int = option(
        480,
        "short side of images in evaluation and prediction, in pixels",
        group="model",
        common=True,
        within=AT_LEAST_ONE,
    )
