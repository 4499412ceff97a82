"""Errors of depths (Eigen et al. 2014, arXiv 1406.2283, section 4): of each image, and their means over the images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from convnext.data.map_loading import WholeBatch
from convnext.data.sources.depth_maps import DepthSet
from convnext.inference.depth import DepthEstimator

log = logging.getLogger("convnext")

NAMES = ("abs_rel", "rmse", "mae", "delta1", "delta2", "delta3")
DEPTH_COLUMNS = ("path", "pixels", *NAMES, "cost")

BINS = 16
"""Bins of true depth for each doubling of it."""


class MeasuredDepths(NamedTuple):
    """Measurements on a set of images.

    Args:
        images: of each image its place in the set, the number of its known depths, and its errors.
        errors: of each bin of true depth the number of its pixels, and the sum of their |depth - truth| / truth.
    """

    images: list[tuple[int, int, dict[str, float]]]
    errors: dict[int, tuple[int, float]]


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


def errors_by_depth(truth: np.ndarray, depths: np.ndarray) -> dict[int, tuple[int, float]]:
    """Pixels whose depth is known, at least one, and the sum of their |depth - truth| / truth, by bin of the truth.

    Bin `b` is from 2^(b / `BINS`) on, in the unit of the depths.
    """
    known = truth > 0
    true, found = truth[known].astype(np.float64), depths[known].astype(np.float64)
    bins = np.floor(BINS * np.log2(true)).astype(np.int64)
    first = int(bins.min())
    pixels = np.bincount(bins - first)
    sums = np.bincount(bins - first, weights=np.abs(found - true) / true)
    return {first + int(b): (int(pixels[b]), float(sums[b])) for b in np.flatnonzero(pixels)}


def estimate_batches(estimator: DepthEstimator, batches: Iterable[WholeBatch]) -> MeasuredDepths:
    """Measurements of a depth estimator on all batches. Unreadable images are named in the log."""
    measured = MeasuredDepths([], {})
    for batch in batches:
        for _, reason in batch.unreadable:
            log.warning("not measured: %s", reason)
        for index, image, truth in zip(batch.indices, batch.images, batch.maps, strict=True):
            pixels = int((truth > 0).sum())
            if pixels:
                depths = estimator.estimate(image, (truth.shape[0], truth.shape[1]))
                measured.images.append((index, pixels, depth_errors(truth, depths)))
                _add(measured.errors, errors_by_depth(truth, depths))
    return measured


def depth_metrics(measured: MeasuredDepths) -> dict[str, float]:
    """Mean of each error over the images; `{"pixels": 0}` without any image."""
    if not measured.images:
        return {"pixels": 0}
    return {name: round(float(np.mean([own[name] for _, _, own in measured.images])), 6) for name in NAMES}


def depth_rows(measured: MeasuredDepths, data: DepthSet) -> Iterator[dict[str, Any]]:
    """A row an image: its file, its known depths, and its errors, of which the relative one is its cost."""
    for index, pixels, own in measured.images:
        errors = {name: round(value, 6) for name, value in own.items()}
        yield {"path": str(data.images[index].file), "pixels": pixels, **errors, "cost": errors["abs_rel"]}


def merge_measured_depths(parts: Sequence[MeasuredDepths]) -> MeasuredDepths:
    """Join what several processes measured, in the set's order."""
    errors: dict[int, tuple[int, float]] = {}
    for part in parts:
        _add(errors, part.errors)
    return MeasuredDepths(sorted((row for part in parts for row in part.images), key=lambda row: row[0]), errors)


def take_measured_depths(measured: MeasuredDepths, places: Sequence[int]) -> MeasuredDepths:
    """Errors of the images at some places of a set, numbered anew, without those by distance; one may come several
    times."""
    known = {place: (pixels, own) for place, pixels, own in measured.images}
    return MeasuredDepths([(new, *known[place]) for new, place in enumerate(places) if place in known], {})


def _add(errors: dict[int, tuple[int, float]], more: dict[int, tuple[int, float]]) -> None:
    """Add what another part has in each bin."""
    for place, (pixels, total) in more.items():
        before = errors.get(place, (0, 0.0))
        errors[place] = (before[0] + pixels, before[1] + total)
