"""Errors of depths (Eigen et al. 2014, arXiv 1406.2283, section 4): of each image, and their means over the images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from convnext.data.maps import WholeBatch
from convnext.inference.depth import DepthEstimator
from convnext.tasks.depth.read import DepthSet

log = logging.getLogger("convnext")

NAMES = ("abs_rel", "rmse", "mae", "delta1", "delta2", "delta3")
DEPTH_COLUMNS = ("path", "pixels", *NAMES)

MeasuredDepths = list[tuple[int, int, dict[str, float]]]
"""Of each image its place in the set, the number of its known depths, and its errors."""


def depth_errors(truth: np.ndarray, depths: np.ndarray) -> dict[str, float]:
    """Errors of the pixels whose depth is known, at least one, by name.

    `abs_rel`: mean of |depth - truth| / truth; `rmse` and `mae` in the unit of the depths; `delta1` to `delta3`:
    percent of the pixels whose depth is less than 1.25, 1.25² and 1.25³ times too large or too small.
    """
    known = truth > 0
    true, found = truth[known].astype(np.float64), depths[known].astype(np.float64)
    difference = np.abs(found - true)
    ratio = np.maximum(found / true, true / np.maximum(found, 1e-9))
    shares = [100 * float((ratio < 1.25**power).mean()) for power in (1, 2, 3)]
    errors = [(difference / true).mean(), (difference**2).mean() ** 0.5, difference.mean(), *shares]
    return dict(zip(NAMES, map(float, errors), strict=True))


def estimate_batches(estimator: DepthEstimator, batches: Iterable[WholeBatch]) -> MeasuredDepths:
    """What a depth estimator makes of all batches. Unreadable images are named in the log."""
    measured: MeasuredDepths = []
    for batch in batches:
        for _, reason in batch.unreadable:
            log.warning("not measured: %s", reason)
        for index, image, truth in zip(batch.indices, batch.images, batch.maps, strict=True):
            pixels = int((truth > 0).sum())
            if pixels:
                own = depth_errors(truth, estimator.estimate(image, (truth.shape[0], truth.shape[1])))
                measured.append((index, pixels, own))
    return measured


def depth_metrics(measured: MeasuredDepths) -> dict[str, float]:
    """Means over the images."""
    if not measured:
        return dict.fromkeys(NAMES, 0.0)
    return {name: round(float(np.mean([own[name] for _, _, own in measured])), 6) for name in NAMES}


def depth_rows(measured: MeasuredDepths, data: DepthSet) -> Iterator[dict[str, Any]]:
    """A row an image: its file, its known depths, and its errors."""
    for index, pixels, own in measured:
        yield {"path": str(data.images[index].file), "pixels": pixels, **{n: round(v, 6) for n, v in own.items()}}


def merge_measured_depths(parts: Sequence[MeasuredDepths]) -> MeasuredDepths:
    """Join what several processes measured, in the set's order."""
    return sorted((row for part in parts for row in part), key=lambda row: row[0])
