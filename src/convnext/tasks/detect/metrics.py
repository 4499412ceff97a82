"""COCO's average precision of boxes and masks, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster

from convnext.data.rle import from_mask, to_code
from convnext.data.sources.annotated import DetectionSet
from convnext.inference.detector import Detector
from convnext.tasks.detect.data import DetectionBatch

log = logging.getLogger("convnext")

Kind = Literal["bbox", "segm"]

KINDS: dict[str, Kind] = {"mask": "segm", "box": "bbox"}
"""Ours and COCO's names of what is measured."""

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve, in its order."""

AREAS = {"s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
"""Least and most area of small, medium and large objects, in pixels, as COCO has them; both ends belong to a size."""


def truth_of(data: DetectionSet, kind: Kind) -> dict[str, Any]:
    """The annotations as COCO's JSON, outlines as codes that are bytes; of masks, those that have an outline.

    Images and categories have their places in `data` as ids: theirs may be text, or stand twice where parts are joined.
    """
    return {
        "info": {},
        "images": [
            {"id": place, "file_name": i.file.name, "width": i.width, "height": i.height}
            for place, i in enumerate(data.images)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(data.classes)],
        "annotations": [
            {
                "id": number,
                "image_id": place,
                "category_id": a.label,
                "bbox": [a.box[0], a.box[1], a.box[2] - a.box[0], a.box[3] - a.box[1]],
                "area": a.area,
                "iscrowd": int(a.crowd),
                **({} if a.outline is None else {"segmentation": to_code(a.outline, image.width, image.height)}),
            }
            for number, (place, image, a) in enumerate(
                ((place, i, a) for place, i in enumerate(data.images) for a in i.annotations), start=1
            )
            if kind == "bbox" or a.outline is not None
        ],
    }


class Result(NamedTuple):
    """An object found in a set: its image's place there, its class, score, box x0, y0, x1, y1, and mask as a code."""

    image: int
    label: int
    score: float
    box: list[float]
    mask: dict[str, Any] | None


@torch.no_grad()
def detect_batches(detector: Detector, batches: Iterable[DetectionBatch], data: DetectionSet) -> list[Result]:
    """Detections in all batches of `data`.

    Images that cannot be read are named in the log, and their objects count as missed.
    """
    results = []
    for batch in batches:
        images = [data.images[index] for index in batch.indices]
        for _, reason in batch.unreadable:
            log.warning("nothing is found in what cannot be read: %s", reason)
        if not images:
            continue
        found = detector.find(batch.images, [(image.height, image.width) for image in images])
        for index, objects in zip(batch.indices, found, strict=True):
            for label, score, box, mask in objects:
                results.append(Result(index, label, score, box, None if mask is None else from_mask(mask)))
    return results


def merge_results(parts: Sequence[list[Result]]) -> list[Result]:
    """Detections of several processes in parts of a set, in the set's order: equal scores are ranked by it."""
    return sorted((row for part in parts for row in part), key=lambda row: row.image)


def take_results(results: Sequence[Result], places: Sequence[int]) -> list[Result]:
    """Detections in the images at some places of a set, numbered anew; one may come several times."""
    known: dict[int, list[Result]] = {}
    for row in results:
        known.setdefault(row.image, []).append(row)
    return [row._replace(image=new) for new, place in enumerate(places) for row in known.get(place, ())]


def as_coco(data: DetectionSet, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as COCO writes them, by the ids that images and categories have in its JSON."""
    return [
        {
            "image_id": data.images[row.image].id,
            "category_id": data.category_ids[row.label],
            "score": row.score,
            "bbox": _corner_and_size(row.box),
            **({} if row.mask is None else {"segmentation": row.mask}),
        }
        for row in results
    ]


def _corner_and_size(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def coco_eval(data: DetectionSet, results: Sequence[Result], kind: Kind) -> COCOeval_faster | None:
    """The evaluation, with its curves; None where there is no result to evaluate."""
    if not results:
        return None
    rows = [
        {
            "image_id": row.image,
            "category_id": row.label,
            "score": row.score,
            # With a mask's box, small and large would be told by the boxes' areas.
            **({"bbox": _corner_and_size(row.box)} if kind == "bbox" else {"segmentation": copy.copy(row.mask)}),
        }
        for row in results
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(truth_of(data, kind))
        evaluation = COCOeval_faster(truth, truth.loadRes(rows), kind)
        evaluation.run()
    return evaluation


def evaluate_kinds(data: DetectionSet, results: Sequence[Result], model: Any) -> dict[str, COCOeval_faster | None]:
    """Evaluations of what a model finds, by name: of boxes, and of masks where it draws them and there are outlines."""
    masks = bool(model.mask_heads) and has_objects(data, outlined=True)
    return {name: coco_eval(data, results, kind) for name, kind in KINDS.items() if masks or kind == "bbox"}


def has_objects(data: DetectionSet, *, outlined: bool = False) -> bool:
    """Whether there is anything to find, or with `outlined` any outline; crowds are not searched for."""
    return any(not a.crowd and (a.outline or not outlined) for image in data.images for a in image.annotations)


def metrics_of(data: DetectionSet, evaluations: dict[str, COCOeval_faster | None]) -> dict[str, float]:
    """COCO's figures in percent, by evaluations of "mask" and "box"; without objects to find, `objects` 0 alone."""
    if not has_objects(data):
        return {"objects": 0}
    metrics: dict[str, float] = {}
    for name, evaluation in evaluations.items():
        figures = nothing_found(data, KINDS[name]) if evaluation is None else coco_metrics(evaluation)
        metrics |= percent(figures, name)
    return metrics


def nothing_found(data: DetectionSet, kind: Kind) -> dict[str, float]:
    """Figures of a detector without any result: 0, or -1 where there is no object to measure one on."""
    areas = [
        a.area for i in data.images for a in i.annotations if not a.crowd and (kind == "bbox" or a.outline is not None)
    ]
    there = {name: any(low <= area <= high for area in areas) for name, (low, high) in AREAS.items()}
    return {name: 0.0 if there.get(name[-1], True) else -1.0 for name in FIGURES}


def coco_metrics(evaluation: COCOeval_faster) -> dict[str, float]:
    """`FIGURES`, from 0 to 1; -1 where there is no object to measure it on."""
    return dict(zip(FIGURES, map(float, evaluation.stats[:12]), strict=True))


def per_category(evaluation: COCOeval_faster | None, data: DetectionSet) -> list[dict[str, Any]]:
    """`AP` and `AP50` in percent of each category that has objects to measure it on, with their number."""
    counts = np.zeros(len(data.classes), dtype=int)
    for image in data.images:
        for annotation in image.annotations:
            counts[annotation.label] += not annotation.crowd
    rows = []
    for label, name in enumerate(data.classes):
        if not counts[label]:
            continue
        row = {"category": name, "objects": int(counts[label]), "AP": 0.0, "AP50": 0.0}
        if evaluation is not None:
            # IoU, recall, category, any area, 100 an image
            precision = evaluation.eval["precision"][:, :, label, 0, -1]
            if not (precision > -1).any():  # masks are measured, and none of its objects has an outline
                continue
            for column, values in (("AP", precision), ("AP50", precision[0])):
                row[column] = round(100 * float(values[values > -1].mean()), 2)
        rows.append(row)
    return rows


def percent(values: dict[str, float], prefix: str) -> dict[str, float]:
    """The figures as metrics: in percent, those without an object to measure left out."""
    return {f"{prefix}_{name}": round(100 * value, 4) for name, value in values.items() if value >= 0}
