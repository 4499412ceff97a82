"""Mean intersection over union, from one confusion matrix of whole numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from convnext.data.label_maps import IGNORED
from convnext.data.segmented import WholeBatch
from convnext.deploy.segmenter import Segmenter

log = logging.getLogger("convnext")


def measure(segmenter: Segmenter, batches: Iterable[WholeBatch]) -> np.ndarray:
    """The confusion matrix of all batches, in the pixels of the label maps. Unreadable images are named in the log."""
    classes = len(segmenter.classes)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for batch in batches:
        for _, reason in batch.unreadable:
            log.warning("not measured: %s", reason)
        for image, truth in zip(batch.images, batch.labels, strict=True):
            matrix += confusion(truth, segmenter.label(image, (truth.shape[0], truth.shape[1])), classes)
    return matrix


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 `[classes, classes]`: pixels of each true class (rows) that were given each class (columns)."""
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """`iou` and `accuracy` of each class, from 0 to 1; nan for what nothing is to be measured on."""
    right = matrix.diagonal().astype(np.float64)
    true, predicted = matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        return {"iou": right / (true + predicted - right), "accuracy": right / true}


def figures(matrix: np.ndarray) -> dict[str, float]:
    """`mIoU`, `mean_accuracy` and `pixel_accuracy` in percent; means over the classes that have a figure."""
    values = per_class(matrix)
    if not matrix.sum():
        return {"mIoU": 0.0, "mean_accuracy": 0.0, "pixel_accuracy": 0.0}
    shares = (np.nanmean(values["iou"]), np.nanmean(values["accuracy"]), matrix.trace() / matrix.sum())
    names = ("mIoU", "mean_accuracy", "pixel_accuracy")
    return {name: round(100 * float(value), 4) for name, value in zip(names, shares, strict=True)}
