"""Sentences on the results of a segmentation run: the metrics, and where the model is worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from convnext.printing import counted, quoted, share
from convnext.tasks.segment.metrics import iou_per_class
from convnext.tasks.weakest import unmeasured

NO_PIXEL = "no pixel of the validation images has a class"


def overlap_in_words(metrics: Mapping[str, float], images: int) -> str:
    """Sentence on the metrics that `iou_metrics` computed on this number of validation images."""
    if not images:
        return f"nothing was measured: {NO_PIXEL}"
    where = counted(images, "validation image")
    overlap = f"{metrics['mIoU']:.2f} % mean overlap of true and found areas (mIoU) on {where}"
    return f"{overlap}, {metrics['pixel_accuracy']:.2f} % of their pixels right (pixel_accuracy)"


def weakest_area(matrix: np.ndarray, names: Sequence[str]) -> str:
    """The class of the lowest intersection over union, of those that are there, and what its pixels are taken for.

    Args:
        matrix: pixels of each true class (rows) that were given each class (columns).
        names: of the classes.
    """
    pixels = matrix.sum(1)
    if not pixels.any():
        return f"not known: {NO_PIXEL}"
    if len(names) == 1:
        return "nothing to compare: there is one class"
    lacking = unmeasured(int((pixels == 0).sum()), len(names))
    if matrix.trace() == pixels.sum():
        return f"nothing: every pixel is right{lacking}"
    values = np.where(pixels > 0, iou_per_class(matrix)["iou"], np.inf)
    worst = int(values.argmin())
    off = matrix * (1 - np.eye(len(names), dtype=matrix.dtype))
    if off[worst].any():
        other = int(off[worst].argmax())
        lost = f"{share(off[worst, other], pixels[worst])} of its pixels are taken for {quoted(names[other])}"
    else:  # all of its own are found, and others' beside them
        other = int(off[:, worst].argmax())
        lost = f"{share(off[other, worst], pixels[other])} of {quoted(names[other])} is taken for it"
    return f"{quoted(names[worst])} has the lowest overlap, IoU {share(values[worst])}; {lost}{lacking}"
