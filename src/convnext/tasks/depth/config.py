"""Options of a depth run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from convnext.config import SupervisedConfig, option
from convnext.errors import InputError


@dataclass(frozen=True)
class DepthConfig(SupervisedConfig):
    """A depth run; `image_size` is the side of the crops."""

    TASK: ClassVar[str] = "depth"
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch", "stratify")

    val_fraction: float = option(
        0.2,
        "share of the images held out for validation, where the data has no split of its own",
        group="data",
        common=True,
    )
    depth_scale: float = option(
        1000.0,
        "value in a depth map that stands for 1 (a metre): 1000 where maps hold millimetres, 256 for KITTI's files",
        group="data",
        common=True,
    )
    fpn_dim: int = option(512, "channels of the pyramid network (UperNet)", group="model")
    aux_dim: int = option(256, "channels of the auxiliary head", group="model")
    aux_weight: float = option(0.4, "weight of the auxiliary head's loss")
    dropout: float = option(0.0, "dropout probability before the last layer", group="model")
    head_norm: Literal["batch", "group"] = option(
        "batch", "normalisation in the head; group for batches of one or two images", group="model"
    )
    short_side: int = option(
        480, "short side of a training image before the crop, in pixels; --scale multiplies it", group="augmentation"
    )
    max_side: int = option(
        1920,
        "longest that the long side of an image may be, in pixels; --scale multiplies it in training",
        group="augmentation",
    )
    scale: tuple[float, float] = option(
        (1.0, 1.5),
        "smallest and largest random factor on a training image's size, by which its depths are divided",
        group="augmentation",
    )
    hflip: float = option(0.5, "probability of a horizontal flip", group="augmentation", common=True)
    photometric: bool = option(
        True, "change brightness, contrast, saturation and hue of training images at random", group="augmentation"
    )
    loss: Literal["l1", "log_l1"] = option(
        "log_l1",
        "l1: error of the depths; log_l1: error of their logarithms, which weighs near things more",
        common=True,
    )
    test_size: int = option(
        480, "short side of images in evaluation and prediction, in pixels", group="model", common=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fpn_dim", "aux_dim", "short_side", "max_side", "test_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.aux_weight >= 0:
            raise InputError(f"aux_weight must not be negative, not {self.aux_weight}")
        if not 0 < self.depth_scale < float("inf"):
            raise InputError(f"depth_scale must be positive, not {self.depth_scale}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale takes two positive numbers, the smaller first, not {self.scale}")
        for name, low, high in (("val_fraction", 0, 1), ("hflip", -0.01, 1.01), ("dropout", -0.01, 1)):
            if not low < getattr(self, name) < high:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
