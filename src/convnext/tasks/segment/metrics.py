"""Mean intersection over union, from one confusion matrix of whole numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from convnext.data.map_loading import WholeBatch
from convnext.data.sources.label_maps import IGNORED, SegmentationSet
from convnext.inference.segmenter import Segmenter
from convnext.printing import first_names

log = logging.getLogger("convnext")

IOU_COLUMNS = ("path", "truth", "answer", "mIoU", "mean_accuracy", "pixel_accuracy", "cost")


class MeasuredImage(NamedTuple):
    """Measures of one image.

    Args:
        place: its place in the set.
        figures: in percent.
        truth: class of most of its pixels by the label map.
        answer: likewise by the segmenter.
        cells: places in its flattened confusion matrix that are not 0.
        pixels: numbers that stand there.
    """

    place: int
    figures: dict[str, float]
    truth: int
    answer: int
    cells: np.ndarray
    pixels: np.ndarray


class Measured(NamedTuple):
    """The confusion matrix of a set, in the pixels of the label maps, and what was measured of each image."""

    matrix: np.ndarray
    images: list[MeasuredImage]


def segment_batches(segmenter: Segmenter, batches: Iterable[WholeBatch]) -> Measured:
    """Measurements of a segmenter on all batches. Unreadable images are named in the log."""
    classes = len(segmenter.classes)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    images = []
    for batch in batches:
        for _, reason in batch.unreadable:
            log.warning("not measured: %s", reason)
        for index, image, truth in zip(batch.indices, batch.images, batch.maps, strict=True):
            own = confusion(truth, segmenter.label(image, (truth.shape[0], truth.shape[1])), classes)
            matrix += own
            if own.any():  # nothing can be said of an image all of which is ignored
                truth_class, answer, cells = int(own.sum(1).argmax()), int(own.sum(0).argmax()), np.flatnonzero(own)
                images.append(MeasuredImage(index, iou_metrics(own), truth_class, answer, cells, own.flat[cells]))
    return Measured(matrix, images)


def merge_measured(parts: Sequence[Measured]) -> Measured:
    """Join what several processes measured, in the set's order."""
    matrices = [part.matrix for part in parts]
    images = [image for part in parts for image in part.images]
    return Measured(np.sum(matrices, axis=0), sorted(images, key=lambda image: image.place))


def take_measured(measured: Measured, places: Sequence[int]) -> Measured:
    """Measurements of the images at some places of a set, numbered anew; one may come several times."""
    known = {image.place: image for image in measured.images}
    images = [known[place]._replace(place=new) for new, place in enumerate(places) if place in known]
    matrix = np.zeros(measured.matrix.size, dtype=np.int64)
    for image in images:
        matrix[image.cells] += image.pixels
    return Measured(matrix.reshape(measured.matrix.shape), images)


def iou_rows(measured: Measured, data: SegmentationSet) -> Iterator[dict[str, Any]]:
    """A row an image: its file, the class of most pixels by its label map and by the segmenter, and figures in percent;
    the cost is the share of pixels that are wrong."""
    for image in measured.images:
        largest = {"truth": data.classes[image.truth], "answer": data.classes[image.answer]}
        cost = round(100 - image.figures["pixel_accuracy"], 4)
        yield {"path": str(data.images[image.place].file), **largest, **image.figures, "cost": cost}


def say_unmeasured(pixels: Iterable[int], classes: Sequence[str]) -> None:
    """Log the classes that no pixel has: they count as 0 in mIoU where one is taken for them, and else not at all."""
    lacking = [name for name, count in zip(classes, pixels, strict=True) if not count]
    if lacking:
        measured = len(classes) - len(lacking)
        log.warning(
            "measured on %d of %d classes: no pixel of %s, which is 0 in mIoU where pixels are taken for it",
            measured,
            len(classes),
            first_names(lacking),
        )


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 `[classes, classes]`: pixels of each true class (rows) that were given each class (columns)."""
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def iou_per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """`iou` and `accuracy` of each class, from 0 to 1; nan for what nothing is to be measured on."""
    right = matrix.diagonal().astype(np.float64)
    true, predicted = matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        return {"iou": right / (true + predicted - right), "accuracy": right / true}


def iou_metrics(matrix: np.ndarray) -> dict[str, float]:
    """`mIoU`, `mean_accuracy` and `pixel_accuracy` in percent; means over the classes that have a figure. Without any
    pixel, `pixels` 0 alone."""
    if not matrix.sum():
        return {"pixels": 0}
    values = iou_per_class(matrix)
    shares = (np.nanmean(values["iou"]), np.nanmean(values["accuracy"]), matrix.trace() / matrix.sum())
    names = ("mIoU", "mean_accuracy", "pixel_accuracy")
    return {name: round(100 * float(value), 4) for name, value in zip(names, shares, strict=True)}
