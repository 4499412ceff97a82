"""Matching of detections and objects: each found box with the object it fits, image by image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from convnext.analysis.calibration import best_threshold, thresholds_stored
from convnext.data.sources.annotated import AnnotatedImage, DetectionSet
from convnext.tasks.detect.metrics import Result

IOU = 0.5
"""The overlap of boxes from which a found object is the one it fits."""

IMAGE_COLUMNS = ("path", "objects", "found", "matched", "missed", "false", "cost")
OBJECT_COLUMNS = ("path", "outcome", "class", "score", "iou", "x0", "y0", "x1", "y1")


def matched(
    data: DetectionSet, results: Sequence[Result], least: Sequence[float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row an image, with counts, and how many objects were missed or are false as its cost; and a row an object:
    "matched" or "false" for what was found with at least the score of its class in `least`, with the box that was
    found, and "missed" with the object's own. Crowds count as neither."""
    found: dict[int, list[Result]] = defaultdict(list)
    for row in results:
        if row.score >= least[row.label]:
            found[row.image].append(row)
    images, objects = [], []
    for place, image in enumerate(data.images):
        own = _of_image(image, sorted(found[place], key=lambda row: -row.score), data.classes)
        outcomes = [row["outcome"] for row in own]
        counts = {name: outcomes.count(name) for name in ("matched", "missed", "false")}
        total = {"objects": counts["matched"] + counts["missed"], "found": counts["matched"] + counts["false"]}
        images.append({"path": str(image.file), **total, **counts, "cost": counts["missed"] + counts["false"]})
        objects += own
    return images, objects


def best_thresholds(data: DetectionSet, results: Sequence[Result]) -> dict[str, Any]:
    """Each class's least score for the highest F1 over the objects of a set, as `Evaluator.calibration` gives it."""
    objects = matched(data, results, [0.0] * len(data.classes))[1]
    best = []
    for name in data.classes:
        own = [row for row in objects if row["class"] == name]
        found = [row for row in own if row["outcome"] != "missed"]
        scores = np.array([row["score"] for row in found], dtype=np.float64)
        right = np.array([row["outcome"] == "matched" for row in found], dtype=bool)
        best.append(best_threshold(scores, right, sum(row["outcome"] != "false" for row in own)))
    return thresholds_stored(best, len(data))


def _of_image(image: AnnotatedImage, found: Sequence[Result], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Match the objects found in one image, by falling score, each with the free object of its class that it overlaps
    most; returns one row an object."""
    truth = [a for a in image.annotations if not a.crowd]
    crowds = [a for a in image.annotations if a.crowd]
    boxes = torch.tensor([row.box for row in found]).reshape(-1, 4)
    overlaps = box_iou(boxes, torch.tensor([a.box for a in truth]).reshape(-1, 4))
    free = [True] * len(truth)
    rows = []
    for row, own in zip(found, overlaps.tolist(), strict=True):
        fitting = [i for i, a in enumerate(truth) if free[i] and a.label == row.label and own[i] >= IOU]
        best = max(fitting, key=own.__getitem__, default=None)
        if best is None and any(a.label == row.label and inside(row.box, a.box) for a in crowds):
            continue
        if best is not None:
            free[best] = False
        overlap = max(own, default=0.0) if best is None else own[best]
        rows.append(
            _row(image, "false" if best is None else "matched", classes[row.label], row.score, overlap, row.box)
        )
    rows += [
        _row(image, "missed", classes[a.label], None, None, a.box) for a, left in zip(truth, free, strict=True) if left
    ]
    return rows


def inside(box: Sequence[float], crowd: Sequence[float]) -> bool:
    """Whether half of a box or more lies in a crowd's."""
    width, height = (min(box[i + 2], crowd[i + 2]) - max(box[i], crowd[i]) for i in (0, 1))
    return max(0.0, width) * max(0.0, height) >= 0.5 * (box[2] - box[0]) * (box[3] - box[1])


def _row(
    image: AnnotatedImage, outcome: str, name: str, score: float | None, iou: float | None, box: Sequence[float]
) -> dict[str, Any]:
    corners = dict(zip(("x0", "y0", "x1", "y1"), (round(value, 2) for value in box), strict=True))
    numbers = {"score": "" if score is None else round(score, 6), "iou": "" if iou is None else round(iou, 4)}
    return {"path": str(image.file), "outcome": outcome, "class": name, **numbers, **corners}
