"""Options of a segmentation run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from convnext.errors import InputError
from convnext.options import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, option
from convnext.tasks.map_config import MapConfig


@dataclass(frozen=True)
class SegmentConfig(MapConfig):
    """A segmentation run."""

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
    most_of_a_class: float = option(
        0.75,
        "largest share of a crop that one class may cover; other crops are drawn again; 1: none are",
        group="augmentation",
        within=ABOVE_ZERO,
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
