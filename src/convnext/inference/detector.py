"""From a trained detector to objects in images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.data.images.whole_image import Size, WholeImage
from convnext.inference.arrays import DetectionArrays, detection_arrays
from convnext.inference.base import BATCH
from convnext.inference.exported import ExportedNetwork
from convnext.inference.whole_images import SeesWholeImages, arguments_of, fill
from convnext.models.detection.exporting import detect
from convnext.models.detection.rcnn import RCNN, Detections, create_detector

MaskPadding = Literal["border", "zeros"]
THRESHOLD = 0.5
"""The least score of an object that counts as found, where nothing else is said."""


class DetectedObject(TypedDict):
    """An object in an image: its class, score from 0 to 1, box as x0, y0, x1, y1 in the image's pixels, and mask, bool
    `[H, W]`, which detectors of boxes alone leave out."""

    label: str
    score: float
    box: list[float]
    mask: NotRequired[np.ndarray]


class Found(NamedTuple):
    """One object in an image: x0, y0, x1, y1 in its pixels, and a bool mask `[H, W]`, or None."""

    label: int
    score: float
    box: list[float]
    mask: np.ndarray | None


class ExportedDetector(nn.Module):
    """An exported detector, called like the `RCNN` that it was made from, image by image.

    Args:
        network: the exported model.
        nms_iou: overlap from which of two boxes of a class the worse one was dropped.
    """

    def __init__(self, network: ExportedNetwork, nms_iou: float) -> None:
        super().__init__()
        self.network, self.engine, self.NMS_IOU = network, network.engine, nms_iou
        self.mask_heads = "masks" in network.outputs

    def forward(self, images: Sequence[Tensor]) -> list[Detections]:
        """Normalised images `[3, H, W]` of any sizes to what is in each."""
        found = [self.network.run(image[None]) for image in images]
        none = torch.zeros(1, 0, 1, 1)
        return [Detections(**{name: one.get(name, none)[0] for name in Detections._fields}) for one in found]

    @property
    def backbone(self) -> nn.Module:
        """Raises `InputError`: the backbone of an exported detector cannot be run alone."""
        return self.network.backbone


class Detector(SeesWholeImages):
    """Finds objects.

    Args:
        model: the network.
        classes: their names.
        category_ids: what COCO's JSON calls them.
        transform: how an image becomes its input.
        mask_padding: what lies about an object's mask: its border's values, or zeros, which make it smaller by up to
            half a cell.
    """

    def __init__(
        self,
        model: RCNN | ExportedDetector,
        classes: Sequence[str],
        category_ids: Sequence[int | str],
        transform: WholeImage,
        *,
        mask_padding: MaskPadding = "border",
    ) -> None:
        super().__init__(model, classes, transform)
        self.outputs = Detections._fields if model.mask_heads else Detections._fields[:-1]
        self.mask_padding: MaskPadding = mask_padding
        self.category_ids = list(category_ids)
        self.thresholds: list[float] | None = None

    def calibrate(self, stored: Mapping[str, Any]) -> None:
        """Answer with the objects that reach the threshold of their class, where no other is asked for."""
        self.thresholds = stored["thresholds"]

    @staticmethod
    def compute(network: Any, images: Tensor) -> tuple[Tensor, ...]:
        return detect(network, images)

    def network_outputs(self, images: Tensor) -> list[Tensor]:
        return [part for found in self.model(list(images)) for part in found]

    def __call__(self, images: Any, threshold: float | None = None, *, batch_size: int = BATCH) -> Any:
        """Objects of one image, or a list of the objects of each of many, with a score of at least `threshold`; without
        one, of at least 0.5, or of a calibrated detector that of their class.

        An image is a path, an address, a binary file, a file's bytes, a PIL image, or pixels as an array or tensor.
        Objects are `DetectedObject`s, best first. `ImageError` for an image that cannot be read.
        """
        return self.each(images, batch_size, self.prepare, lambda prepared: self.objects(prepared, threshold))

    def arrays(self, images: Any, threshold: float | None = None, *, batch_size: int = BATCH) -> Any:
        """The answers of `__call__` as `DetectionArrays` of one image, or a list of them for many: what
        `supervision.Detections` takes, `Detections(**detector.arrays(image))`."""
        return self.each(
            images, batch_size, self.prepare, lambda prepared: self._arrays(prepared, self.objects(prepared, threshold))
        )

    def _arrays(
        self, prepared: list[tuple[Tensor, Size]], answers: list[list[DetectedObject]]
    ) -> list[DetectionArrays]:
        arrays = []
        for (_, size), objects in zip(prepared, answers, strict=True):
            labels = [self.classes.index(each["label"]) for each in objects]
            boxes, scores = [each["box"] for each in objects], [each["score"] for each in objects]
            masks = [each["mask"] for each in objects if "mask" in each] if "masks" in self.outputs else None
            arrays.append(detection_arrays(self.classes, labels, boxes, scores, masks, size))
        return arrays

    def objects(self, prepared: list[tuple[Tensor, Size]], threshold: float | None) -> list[list[DetectedObject]]:
        """Objects of images that `prepare` gave."""
        least = self.least(threshold)
        found = self.find([inputs for inputs, _ in prepared], [size for _, size in prepared], least=min(least))
        return [[self.named(each) for each in objects if each.score >= least[each.label]] for objects in found]

    def least(self, threshold: float | None = None) -> list[float]:
        """The score of each class from which an object counts: `threshold`, or without one those of `__call__`."""
        if threshold is None and self.thresholds is not None:
            return self.thresholds
        return [THRESHOLD if threshold is None else threshold] * len(self.classes)

    def named(self, found: Found) -> DetectedObject:
        """An object with its class's name."""
        named: DetectedObject = {"label": self.classes[found.label], "score": found.score, "box": found.box}
        if found.mask is not None:
            named["mask"] = found.mask
        return named

    @torch.inference_mode()
    def find(self, inputs: list[Tensor], sizes: list[Size], *, least: float = 0.0) -> list[list[Found]]:
        """The objects of transformed images with at least that score, in the pixels of the images, of these sizes."""
        detections = self.model([each.to(self.device) for each in inputs])
        return [
            list(place(found, (each.shape[1], each.shape[2]), size, least=least, padding=self.mask_padding))
            for found, each, size in zip(detections, inputs, sizes, strict=True)
        ]


def place(
    found: Detections, inner: Size, size: Size, *, least: float = 0.0, padding: MaskPadding = "border"
) -> Iterator[Found]:
    """Objects found in an image of `inner` height and width, one by one, in the pixels of the same image of another
    `size`."""
    factor = torch.tensor([size[1] / inner[1], size[0] / inner[0]] * 2)
    boxes = found.boxes.float().cpu() * factor
    masks = found.masks.float().cpu()
    for i, (label, score) in enumerate(zip(found.labels.tolist(), found.scores.tolist(), strict=True)):
        if score < least:
            break
        box = boxes[i].tolist()
        yield Found(label, score, box, paste(masks[i], box, size, padding) if len(masks) else None)


def paste(mask: Tensor, box: Sequence[float], size: Size, padding: MaskPadding = "border") -> np.ndarray:
    """Pixels of an image of `size` where an object's mask `[side, side]`, over its box, exceeds a half, bool `[H, W]`.

    The box is not rounded: torchvision's `paste_masks_in_image` takes whole pixels, up to one off on each side.
    """
    drawn = np.zeros(size, dtype=bool)
    (first_x, last_x, xs), (first_y, last_y, ys) = (
        _pixels(box[axis], box[axis + 2], length) for axis, length in ((0, size[1]), (1, size[0]))
    )
    if len(xs) and len(ys):
        grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)
        values = F.grid_sample(mask[None, None], grid[None], align_corners=False, padding_mode=padding)[0, 0]
        drawn[first_y:last_y, first_x:last_x] = (values > 0.5).numpy()
    return drawn


def _pixels(start: float, end: float, length: int) -> tuple[int, int, Tensor]:
    """The pixels, of `length`, with middles between two edges: first, last + 1, and where they lie, from -1 to 1."""
    first = max(0, math.ceil(start - 0.5))
    last = max(first, min(length, math.ceil(end - 0.5)))
    return first, last, (torch.arange(first, last) + 0.5 - start) / (end - start) * 2 - 1


def build_detector(state: dict[str, Tensor], meta: dict[str, Any]) -> Detector:
    """The detector whose weights and description a run stored."""
    with torch.device("meta"):
        model = create_detector(meta["model"], num_classes=len(meta["classes"]), **arguments_of(meta))
    fill(model, state)
    return detector_of(model, meta)


def exported_detector(network: ExportedNetwork, meta: dict[str, Any]) -> Detector:
    """The detector whose export this is."""
    return detector_of(ExportedDetector(network, meta["export"]["nms_iou"]), meta)


def detector_of(model: RCNN | ExportedDetector, meta: dict[str, Any]) -> Detector:
    """A detector on a network, used as its metadata say."""
    transform = WholeImage(**meta["transform"])
    return Detector(model, meta["classes"], meta["category_ids"], transform, **meta.get("testing", {}))
