"""Options of a segmentation run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from convnext.config import SupervisedConfig, option
from convnext.errors import InputError


@dataclass(frozen=True)
class SegmentConfig(SupervisedConfig):
    """A segmentation run; `image_size` is the side of the crops."""

    TASK: ClassVar[str] = "segment"
    OLD_RULE: ClassVar[int] = 0
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch")

    val_fraction: float = option(
        0.2, "share held out for validation where the data has no split of its own", group="data", common=True
    )
    format: str | None = option(
        None,
        "form of the data, where there are several: panoptic, maps, coco, yolo, labelme, cvat; none: the first of them",
        group="data",
    )
    ignore_index: int = option(255, "number of pixels in a label map that are ignored", group="data", common=True)
    reduce_zero_label: bool = option(False, "0 in a label map is ignored, and 1 the first class (ADE20K)", group="data")
    label_map: str | None = option(
        None, 'JSON file that says which class a number is: {"17": "cat", "0": null}', group="data"
    )
    epoch_steps: int | None = option(None, "steps that make an epoch; none: one pass over the images", group="data")
    fpn_dim: int = option(512, "channels of the pyramid network", group="model")
    aux_dim: int = option(256, "channels of the auxiliary head", group="model")
    aux_weight: float = option(0.4, "weight of the auxiliary head's loss")
    dropout: float = option(0.1, "before the classifying layers", group="model")
    head_norm: Literal["batch", "group"] = option(
        "batch", "norm of the head; group for batches of one or two images", group="model"
    )
    short_side: int = option(512, "short side of a training image before the crop, times `scale`", group="augmentation")
    max_side: int = option(2048, "most pixels of the long side, times `scale`", group="augmentation")
    scale: tuple[float, float] = option(
        (0.5, 2.0), "random factor on a training image's size, from and to", group="augmentation"
    )
    most_of_a_class: float = option(
        0.75, "share of a crop that one class may have, else it is drawn again", group="augmentation"
    )
    hflip: float = option(0.5, "probability of a horizontal flip", group="augmentation", common=True)
    photometric: bool = option(True, "change brightness, contrast, saturation and hue", group="augmentation")
    loss: Literal["cross_entropy", "ohem"] = option("cross_entropy", "of all pixels, or of the hard ones", common=True)
    dice: float = option(0.0, "weight of the Dice loss beside it")
    class_weights: Literal["none", "root", "balanced"] = option(
        "none", "weigh classes by the inverse of their pixels, or of the square root of them", group="data"
    )
    test_size: int = option(512, "short side in evaluation and prediction, in pixels", group="model", common=True)
    window: int | None = option(
        None, "side of a window that slides over test images; none: they are seen whole", group="model"
    )
    stride: int | None = option(None, "the window's steps; none: two thirds of it", group="model")

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("fpn_dim", "aux_dim", "short_side", "max_side", "test_size")
        for name in (*sizes, "epoch_steps", "window", "stride"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("aux_weight", "dice"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale takes two positive numbers, the smaller first, not {self.scale}")
        for name, low, high in (("val_fraction", 0, 1), ("most_of_a_class", 0, 1.01), ("dropout", -0.01, 1)):
            if not low < getattr(self, name) < high:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.stride is not None and (self.window is None or self.stride > self.window):
            raise InputError("stride goes with a window, and is at most as large")
