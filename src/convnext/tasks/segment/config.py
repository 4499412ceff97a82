"""Options of a segmentation run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from convnext.config import SupervisedConfig
from convnext.errors import InputError
from convnext.options import ABOVE_ZERO, AT_LEAST_ONE, BELOW_ONE, NOT_NEGATIVE, RANGE, ZERO_TO_ONE, option


@dataclass(frozen=True)
class SegmentConfig(SupervisedConfig):
    """A segmentation run; `image_size` is the side of the crops."""

    TASK: ClassVar[str] = "segment"
    OLD_RULE: ClassVar[int] = 0
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch")

    format: str | None = option(
        None,
        "format of the annotations, where there are several: panoptic, maps, coco, yolo, labelme, cvat; none: the "
        "first of them",
        group="data",
    )
    ignore_index: int = option(255, "value of the pixels in a label map that are ignored", group="data", common=True)
    reduce_zero_label: bool = option(
        False, "ignore the value 0 in label maps, and take 1 as the first class (ADE20K)", group="data"
    )
    label_map: str | None = option(
        None, 'JSON file that names the class of each value in label maps: {"17": "cat", "0": null}', group="data"
    )
    epoch_steps: int | None = option(
        None, "steps that make an epoch; none: one pass over the images", group="data", within=AT_LEAST_ONE
    )
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
    most_of_a_class: float = option(
        0.75,
        "largest share of a crop that one class may cover; other crops are drawn again",
        group="augmentation",
        within=ABOVE_ZERO,
    )
    hflip: float = option(
        0.5, "probability of a horizontal flip", group="augmentation", common=True, within=ZERO_TO_ONE
    )
    photometric: bool = option(
        True, "change brightness, contrast, saturation and hue of training images at random", group="augmentation"
    )
    loss: Literal["cross_entropy", "ohem"] = option(
        "cross_entropy",
        "cross_entropy: over all pixels; ohem: cross-entropy over the hardest pixels alone",
        common=True,
    )
    dice: float = option(0.0, "weight of a Dice loss that is added; 0: none", within=NOT_NEGATIVE)
    class_weights: Literal["none", "root", "balanced"] = option(
        "none",
        "weights of classes in the loss; balanced: by the inverse of each one's pixels; root: of the square root of "
        "them",
        group="data",
    )
    test_size: int = option(
        512,
        "short side of images in evaluation and prediction, in pixels",
        group="model",
        common=True,
        within=AT_LEAST_ONE,
    )
    window: int | None = option(
        None,
        "side of a window that slides over images in evaluation and prediction, in pixels; none: they are seen whole",
        group="model",
        within=AT_LEAST_ONE,
    )
    stride: int | None = option(
        None, "step of the sliding window, in pixels; none: two thirds of --window", group="model", within=AT_LEAST_ONE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and (self.window is None or self.stride > self.window):
            raise InputError("stride goes with a window, and is at most as large")
