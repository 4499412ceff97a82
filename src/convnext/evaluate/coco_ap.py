"""COCO's average precision of boxes and masks, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster

from convnext.data.annotated import DetectionBatch
from convnext.data.coco import Annotated
from convnext.data.outlines import from_mask, to_code
from convnext.deploy.detector import Detector

log = logging.getLogger("convnext")

Kind = Literal["bbox", "segm"]

KINDS: dict[str, Kind] = {"mask": "segm", "box": "bbox"}
"""Ours and COCO's names of what is measured."""

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve, in its order."""


def truth_of(data: Annotated, kind: Kind) -> dict[str, Any]:
    """The annotations as COCO's JSON, outlines as codes that are bytes; of masks, those that have an outline."""
    return {
        "info": {},
        "images": [{"id": i.id, "file_name": i.file.name, "width": i.width, "height": i.height} for i in data.images],
        "categories": [
            {"id": number, "name": name} for number, name in zip(data.category_ids, data.classes, strict=True)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image.id,
                "category_id": data.category_ids[a.label],
                "bbox": [a.box[0], a.box[1], a.box[2] - a.box[0], a.box[3] - a.box[1]],
                "area": a.area,
                "iscrowd": int(a.crowd),
                **({} if a.outline is None else {"segmentation": to_code(a.outline, image.width, image.height)}),
            }
            for number, (image, a) in enumerate(((i, a) for i in data.images for a in i.annotations), start=1)
            if kind == "bbox" or a.outline is not None
        ],
    }


@torch.no_grad()
def detect(detector: Detector, batches: Iterable[DetectionBatch], data: Annotated) -> list[dict[str, Any]]:
    """COCO's results of all batches: image, category, box as x, y, width, height, score, and mask as a code.

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
        for image, objects in zip(images, found, strict=True):
            for label, score, (x0, y0, x1, y1), mask in objects:
                row: dict[str, Any] = {"image_id": image.id, "category_id": data.category_ids[label], "score": score}
                row["bbox"] = [x0, y0, x1 - x0, y1 - y0]
                if mask is not None:
                    row["segmentation"] = from_mask(mask)
                results.append(row)
    return results


def coco_eval(data: Annotated, results: list[dict[str, Any]], kind: Kind) -> COCOeval_faster | None:
    """The evaluation, with its curves; None where there is no result to evaluate."""
    if not results:
        return None
    results = copy.deepcopy(results)  # what comes changes them
    if kind == "segm":  # or small and large would be told by the boxes' areas
        results = [{name: value for name, value in row.items() if name != "bbox"} for row in results]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(truth_of(data, kind))
        evaluation = COCOeval_faster(truth, truth.loadRes(results), kind)
        evaluation.run()
    return evaluation


def figures(evaluation: COCOeval_faster | None) -> dict[str, float]:
    """`FIGURES`, from 0 to 1; -1 where there is no object to measure it on."""
    if evaluation is None:
        return dict.fromkeys(FIGURES, 0.0)
    return dict(zip(FIGURES, map(float, evaluation.stats[:12]), strict=True))


def per_category(evaluation: COCOeval_faster | None, data: Annotated) -> list[dict[str, Any]]:
    """`AP` and `AP50` in percent of each category that has objects, with their number."""
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
            precision = evaluation.eval["precision"][
                :, :, label, 0, -1
            ]  # IoU, recall, category, any area, 100 an image
            for column, values in (("AP", precision), ("AP50", precision[0])):
                row[column] = round(100 * float(values[values > -1].mean()), 2)
        rows.append(row)
    return rows


def percent(values: dict[str, float], prefix: str) -> dict[str, float]:
    """The figures as metrics: in percent, those without an object to measure left out."""
    return {f"{prefix}_{name}": round(100 * value, 4) for name, value in values.items() if value >= 0}
