"""Metrics by group of images, with bootstrap intervals, and the largest gap between groups.

Percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

import numpy as np

LEAST_IMAGES = 20
"""Images of a group from which an interval says something."""
LEVEL = 95
"""Intervals hold the true value in so many percent of the cases."""

Measure = Callable[[Sequence[int]], Mapping[str, float]]
"""Metrics of the images at some places, of which one may come several times."""


class GroupMetrics(NamedTuple):
    """Metrics of a group of images.

    Args:
        by: column that the group is of; two joined by " × ".
        group: its value there.
        images: how many there are.
        metrics: by name.
        intervals: ends of each metric's interval by name; empty for a group of fewer than `LEAST_IMAGES` images.
        samples: each metric of resampled images by name, from which the intervals are; likewise.
    """

    by: str
    group: str
    images: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    samples: Mapping[str, np.ndarray]


class Gap(NamedTuple):
    """The largest difference of a metric between two groups of a column, and its interval."""

    by: str
    metric: str
    highest: str
    lowest: str
    gap: float
    low: float
    high: float


def measure_group(by: str, group: str, places: Sequence[int], measure: Measure, resamples: int) -> GroupMetrics:
    """Metrics of the images at `places`, with intervals; the draws depend on the group's name alone."""
    metrics = {name: value for name, value in measure(places).items() if isinstance(value, int | float)}
    if len(places) < LEAST_IMAGES:
        return GroupMetrics(by, group, len(places), metrics, {}, {})
    draws, own = np.random.default_rng(crc32(f"{by}\0{group}".encode(errors="replace"))), np.asarray(places)
    drawn = [measure(draws.choice(own, len(own)).tolist()) for _ in range(resamples)]
    samples = {name: np.array([each.get(name, np.nan) for each in drawn], dtype=np.float64) for name in metrics}
    known = {name: values for name, values in samples.items() if np.isfinite(values).all()}
    return GroupMetrics(by, group, len(places), metrics, {n: interval(v) for n, v in known.items()}, known)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Ends of the interval that leaves out as many samples above as below."""
    rest = (100 - LEVEL) / 2
    low, high = np.percentile(samples, [rest, 100 - rest])
    return float(low), float(high)


def largest_gap(groups: Sequence[GroupMetrics], metric: str) -> Gap | None:
    """The largest difference between groups of one column; None where fewer than two have intervals.

    Its interval is that of the difference of the two groups' resampled metrics.
    """
    known = [group for group in groups if metric in group.samples]
    if len(known) < 2:
        return None
    highest = max(known, key=lambda group: group.metrics[metric])
    lowest = min(known, key=lambda group: group.metrics[metric])
    ends = interval(highest.samples[metric] - lowest.samples[metric])
    gap = highest.metrics[metric] - lowest.metrics[metric]
    return Gap(highest.by, metric, highest.group, lowest.group, gap, *ends)


def pairs_of(columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The values of every two columns side by side, of N images each."""
    names = list(columns)
    return {
        f"{one} × {other}": [f"{a}, {b}" for a, b in zip(columns[one], columns[other], strict=True)]
        for place, one in enumerate(names)
        for other in names[place + 1 :]
    }


def places_by_value(values: Sequence[str]) -> dict[str, list[int]]:
    """Places of each value, in the order of the values."""
    found: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        found.setdefault(value, []).append(place)
    return dict(sorted(found.items()))


def in_quarters(numbers: Sequence[float]) -> list[str]:
    """Names of the quarters that N numbers lie in, such as "1: up to 34"; of equal ends there are fewer quarters."""
    ends = sorted({float(end) for end in np.quantile(numbers, [0.25, 0.5, 0.75, 1])})
    names = [f"1: up to {_end(ends[0])}"]
    names += [f"{n}: {_end(low)} to {_end(high)}" for n, (low, high) in enumerate(pairwise(ends), start=2)]
    return [names[int(np.searchsorted(ends, number))] for number in numbers]


def _end(value: float) -> str:
    """An end of a quarter: six digits, and of large numbers, such as the date 20240101, a tenth."""
    return f"{value:.{max(6, len(str(int(abs(value)))) + 1)}g}"
