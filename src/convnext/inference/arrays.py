"""Answers as arrays over all objects of an image, named as `supervision.Detections` names its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np


class DetectionArrays(TypedDict):
    """The N objects of an image `[H, W]`: `supervision.Detections(**arrays)`.

    Fields:
        xyxy: boxes as x0, y0, x1, y1 in pixels, float32 `[N, 4]`.
        mask: bool `[N, H, W]`; None of models that give no masks.
        confidence: scores from 0 to 1, float32 `[N]`; None of models that give no scores.
        class_id: positions among the model's classes, int64 `[N]`.
        data: "class_name", their names, `[N]`.
    """

    xyxy: np.ndarray
    mask: np.ndarray | None
    confidence: np.ndarray | None
    class_id: np.ndarray
    data: dict[str, np.ndarray]


def detection_arrays(
    classes: Sequence[str],
    labels: Sequence[int],
    boxes: Sequence[Sequence[float]],
    scores: Sequence[float] | None,
    masks: Sequence[np.ndarray] | None,
    size: tuple[int, int],
) -> DetectionArrays:
    """Arrays of objects in an image of `size` height and width; of no objects, too."""
    return {
        "xyxy": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "mask": None if masks is None else np.array(masks, dtype=bool).reshape(-1, *size),
        "confidence": None if scores is None else np.array(scores, dtype=np.float32),
        "class_id": np.array(labels, dtype=np.int64),
        "data": {"class_name": np.array([classes[label] for label in labels], dtype=np.str_)},
    }


def pixels_of_classes(labels: np.ndarray) -> dict[int, int]:
    """How many pixels each class of a label map has, of those that are there, the largest first."""
    counts = np.bincount(labels.ravel())
    return {label: int(counts[label]) for label in np.argsort(-counts, kind="stable").tolist() if counts[label]}


def area_arrays(classes: Sequence[str], labels: np.ndarray) -> DetectionArrays:
    """The areas of a label map `[H, W]`: every class that is there is an object, with the box around all its pixels."""
    found = np.unique(labels).tolist()
    masks = [labels == label for label in found]
    boxes = []
    for mask in masks:
        xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        boxes.append((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1))
    return detection_arrays(classes, found, boxes, None, masks, (labels.shape[0], labels.shape[1]))
