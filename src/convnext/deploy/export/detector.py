"""Checks of a detector's export, object by object, and the rules inside it by which objects are chosen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from convnext.deploy.export.verify import checked_inputs
from convnext.errors import InputError
from convnext.inference.detector import Detector, ExportedDetector
from convnext.inference.exported import ExportedNetwork
from convnext.models.detection.rcnn import RCNN, Detections

log = logging.getLogger("convnext")


class Bound(NamedTuple):
    """How far an object may be from the network's own: pixels of its box, score, mean of its mask's probabilities; and
    the share of objects that may have no such counterpart."""

    pixels: float
    score: float
    mask: float
    missed: float


OBJECT_BOUNDS = {
    "fp32": Bound(1, 1e-3, 1e-3, 0.01),
    "fp16": Bound(2, 2e-2, 2e-2, 0.1),
    "bf16": Bound(4, 5e-2, 5e-2, 0.2),
    "int8": Bound(8, 0.2, 0.2, 1.0),
}
"""Bounds of a detector's export by precision.

A box that is just above or below a threshold may be found by one and not by the other. In 8 bits all may, and labelled
images say how much is lost."""


def thresholds(model: RCNN) -> dict[str, Any]:
    """The rules by which objects are chosen, which an export has inside, by name."""
    return {
        "score_threshold": model.SCORE_THRESHOLD,
        "nms_iou": model.NMS_IOU,
        "most_objects": model.MAX_DETECTIONS,
        "soft_nms": model.soft_nms,
    }


def verify_detector(
    predictor: Detector, exported: ExportedNetwork, images: Sequence[Image.Image], precision: str
) -> float:
    """The largest difference of an object's score between network and export.

    The images are seen at the size that the predictor sees and at another one.

    Raises:
        InputError: too many objects are not the same.
    """
    model, bound = predictor.model, OBJECT_BOUNDS[precision]
    other = ExportedDetector(exported, model.NMS_IOU)
    threshold = model.DECAYED if model.soft_nms else model.SCORE_THRESHOLD
    worst, count, missed = 0.0, 0, 0
    for image in (image for inputs in checked_inputs(predictor, images) for image in inputs):
        with torch.inference_mode():
            own, found = model([image])[0], other([image])[0]
        cut = [float(each.scores[-1]) for each in (own, found) if len(each.scores) == model.MAX_DETECTIONS]
        for one, another in ((own, found), (found, own)):
            differences = counterparts(one, another, bound, least=max([threshold, *cut]))
            count, missed = count + len(differences), missed + int(differences.isnan().sum())
            worst = max([worst, *differences[~differences.isnan()].tolist()])
    if missed > bound.missed * count:
        raise InputError(
            f"the export is not written: {missed} of {count} objects are not where the network has them, within "
            f"{bound.pixels:g} pixels and {bound.score:g} of the score, and {bound.missed:.0%} may be in {precision}"
        )
    if not count:
        log.warning("nothing is found in the images that the export is checked on: name others with --images")
    return worst


def counterparts(one: Detections, another: Detections, bound: Bound, *, least: float) -> Tensor:
    """How far the scores of one's objects are from those that another has in their places, NaN for none: `[n]`.

    Objects whose scores are within the bound of `least` are left out: the other may have cut them off there.
    """
    sure = one.scores > least + bound.score
    boxes, scores, labels = one.boxes[sure], one.scores[sure], one.labels[sure]
    apart = (scores[:, None] - another.scores).abs()
    same = (labels[:, None] == another.labels) & (apart <= bound.score)
    same &= (boxes[:, None] - another.boxes).abs().amax(2) <= bound.pixels
    if len(one.masks) and len(another.masks):
        same &= torch.cdist(one.masks[sure].flatten(1), another.masks.flatten(1), p=1) <= (
            bound.mask * one.masks[0].numel()
        )
    nearest = torch.where(same, apart, torch.inf)
    nearest = nearest.amin(1) if nearest.shape[1] else torch.full_like(scores, torch.inf)
    return torch.where(nearest.isinf(), torch.nan, nearest)
