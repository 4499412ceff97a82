"""Options of a classification run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from convnext.config import SupervisedConfig
from convnext.errors import InputError
from convnext.options import ABOVE_ZERO, NOT_NEGATIVE, RANGE_OF_SHARES, ZERO_TO_ONE, option
from convnext.parsing import parse

ONE_LABEL = ("mixup", "cutmix", "label_smoothing")
"""Options that need one label an image."""


@dataclass(frozen=True)
class ClassifyConfig(SupervisedConfig):
    """A classification run."""

    TASK: ClassVar[str] = "classify"

    format: str | None = option(
        None,
        "format of detection data whose boxes are the images: coco, yolo, voc, labelme, cvat, open_images; none: no "
        "boxes",
        group="data",
    )
    multi_label: bool = option(False, "train on several labels an image, as a table gives them", group="data")
    crop: float | None = option(
        None,
        "share of the resized image's side that the centre crop keeps in evaluation; 1: no crop, the whole image is "
        "warped to a square; none: 0.875 below 384 pixels, else 1",
        group="model",
    )
    crop_scale: tuple[float, float] = option(
        (0.08, 1.0), "share of the image's area a training crop takes", group="augmentation", within=RANGE_OF_SHARES
    )
    progressive_resizing: float | None = option(
        None,
        "side of the first training images, as a share of --image-size; they grow in three equal parts of the "
        "training; none: one size",
        group="augmentation",
        within=ABOVE_ZERO,
    )
    hflip: float = option(
        0.5, "probability of a horizontal flip", group="augmentation", common=True, within=ZERO_TO_ONE
    )
    rand_augment: str | None = option(
        "rand-m9-mstd0.5-inc1",
        "RandAugment policy, as timm writes it: rand-m9-mstd0.5-inc1; none: no RandAugment",
        group="augmentation",
    )
    color_jitter: float = option(
        0.0, "strength of colour jitter, with --rand-augment none", group="augmentation", within=NOT_NEGATIVE
    )
    random_erasing: float = option(
        0.25, "probability of erasing a random rectangle of a training image", group="augmentation", within=ZERO_TO_ONE
    )
    mixup: float = option(
        0.0,
        "alpha of mixup, which blends two images and their labels; 0: off",
        group="augmentation",
        common=True,
        within=NOT_NEGATIVE,
    )
    cutmix: float = option(
        0.0,
        "alpha of CutMix, which pastes a piece of one image into another; 0: off",
        group="augmentation",
        within=NOT_NEGATIVE,
    )
    mix_after: float = option(
        0.0,
        "epochs before mixup and CutMix begin: they help long trainings and cost short ones",
        group="augmentation",
        within=NOT_NEGATIVE,
    )
    label_smoothing: float = option(
        0.1,
        "label smoothing: probability that is moved from the label to all classes",
        group="augmentation",
        within=ZERO_TO_ONE,
    )
    class_weights: Literal["none", "balanced"] = option(
        "none",
        "weights of classes in the loss; balanced: by the inverse of each one's number of images, or, with several "
        "labels an image, by the number without a class for each one with it",
        group="data",
    )
    head_init_scale: float = option(
        1.0, "factor on the initial weights of a new head", group="model", within=NOT_NEGATIVE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.multi_label and any(getattr(self, name) for name in ONE_LABEL):
            raise InputError("mixup, cutmix and label smoothing need one label an image; set them to 0 for multi_label")

    def refuse_unused(self, given: Collection[str]) -> None:
        """`InputError` for colour jitter beside RandAugment, whose colours timm takes instead."""
        if "color_jitter" in given and self.color_jitter and self.rand_augment is not None:
            raise InputError("color_jitter must be left out beside RandAugment, or given with --rand-augment none")

    def override(self, changes: dict[str, Any]) -> Self:
        """A copy with some fields changed (`TrainConfig.override`); with several labels an image, what a recipe does
        with one label is off."""
        several = changes.get("multi_label")
        if several if not isinstance(several, str) else parse("multi_label", several, bool):
            changes = {**dict.fromkeys(ONE_LABEL, 0.0), **changes}
        return super().override(changes)
