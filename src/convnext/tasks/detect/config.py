"""Options of a detection run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

from convnext.config import SupervisedConfig
from convnext.errors import InputError
from convnext.options import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, RANGE, ZERO_TO_ONE, option


@dataclass(frozen=True)
class DetectConfig(SupervisedConfig):
    """A detection run; `image_size` is the side of the jitter's square."""

    TASK: ClassVar[str] = "detect"
    OLD_RULE: ClassVar[int] = 0
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch")

    format: str | None = option(
        None,
        "format of the annotations, where there are several: coco, yolo, voc, labelme, cvat, open_images; none: what "
        "is there",
        group="data",
    )
    masks: bool = option(True, "predict masks too; false: bounding boxes alone", group="model", common=True)
    negatives: bool = option(False, "train on images without objects too", group="data")
    cascade: bool = option(
        False, "Cascade R-CNN: three stages of box heads, with the GIoU loss, instead of one", group="model"
    )
    class_agnostic: bool = option(
        False, "predict one box for all classes, instead of one for each class", group="model"
    )
    fpn_dim: int = option(256, "channels of the feature pyramid and the heads", group="model", within=AT_LEAST_ONE)
    linear_dim: int = option(1024, "width of the linear layers in the box heads", group="model", within=AT_LEAST_ONE)
    box_convs: int = option(0, "convolutions in the box heads", group="model", within=NOT_NEGATIVE)
    mask_convs: int = option(4, "convolutions in the mask heads", group="model", within=NOT_NEGATIVE)
    head_norm: Literal["batch", "group", "none"] = option(
        "none", "normalisation after the convolutions of the box heads", group="model"
    )
    anchor_scale: float = option(
        8.0,
        "side of the anchors, in strides of their feature map: smaller for small objects",
        group="model",
        within=POSITIVE,
    )
    rois_per_image: int = option(
        512,
        "proposed regions of each image that a box head learns from, at most a quarter of them objects",
        group="model",
        within=AT_LEAST_ONE,
    )
    soft_nms: bool = option(False, "use soft-NMS instead of NMS", group="model")
    scale_jitter: tuple[float, float] | None = option(
        (0.1, 2.0),
        "large-scale jitter: smallest and largest factor on an image's size; none: whole images, as --short-sides says",
        group="augmentation",
        within=RANGE,
    )
    short_sides: tuple[int, int] = option(
        (480, 800),
        "with --scale-jitter none: smallest and largest short side in training, in steps of 32 pixels",
        group="augmentation",
        within=RANGE,
    )
    random_crop: float = option(
        0.0,
        "with --scale-jitter none: probability of a random part of an image instead of the whole one, 384 to 600 "
        "pixels high and wide where the image's short side is 400 to 600",
        group="augmentation",
        within=ZERO_TO_ONE,
    )
    test_size: int = option(
        800,
        "short side of images in evaluation and prediction, in pixels",
        group="model",
        common=True,
        within=AT_LEAST_ONE,
    )
    max_side: int = option(
        1333, "longest that the long side of an image may be, in pixels", group="augmentation", within=AT_LEAST_ONE
    )
    hflip: float = option(
        0.5, "probability of a horizontal flip", group="augmentation", common=True, within=ZERO_TO_ONE
    )
    vflip: float = option(0.0, "probability of a vertical flip", group="augmentation", within=ZERO_TO_ONE)
    colour: float = option(
        0.0, "strength of changes of brightness, contrast and saturation", group="augmentation", within=NOT_NEGATIVE
    )

    def refuse_unused(self, given: Collection[str]) -> None:
        """`InputError` for sizes of the other kind of augmentation."""
        if self.scale_jitter is None and "image_size" in given:
            raise InputError(
                "image_size must be left out at scale_jitter none: --short-sides says how large images are"
            )
        for name in ("short_sides", "random_crop"):
            if self.scale_jitter is not None and name in given:
                raise InputError(f"{name} must be left out with scale_jitter: --image-size says how large images are")
