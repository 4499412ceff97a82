"""Metrics by group: coverage of the intervals in a simulation, gaps, and groups that are too small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from convnext.analysis.subgroups import (
    LEAST_IMAGES,
    in_quarters,
    interval,
    largest_gap,
    measure_group,
    pairs_of,
    places_by_value,
)


def measured(right: np.ndarray):
    def measure(places: Sequence[int]) -> dict[str, float]:
        return {"top1": 100 * float(right[list(places)].mean())}

    return measure


def test_intervals_hold_the_truth_at_their_rate() -> None:
    """1,000 sets of 200 images of which 70 % are right; of each, an interval from 1,000 resamples."""
    draws, held = np.random.default_rng(0), 0
    for _ in range(1000):
        right = draws.random(200) < 0.7
        samples = draws.binomial(200, right.mean(), 1000) / 200  # what resampling of zeros and ones draws
        low, high = interval(samples)
        held += low <= 0.7 <= high
    assert 930 <= held <= 970


def test_resamples_are_those_of_the_images() -> None:
    right = np.random.default_rng(1).random(400) < 0.8
    group = measure_group("by", "a", range(400), measured(right), 500)
    rate = right.mean()
    assert group.metrics["top1"] == pytest.approx(100 * rate)
    assert group.samples["top1"].std() == pytest.approx(100 * (rate * (1 - rate) / 400) ** 0.5, rel=0.1)
    low, high = group.intervals["top1"]
    assert low < group.metrics["top1"] < high


def test_an_interval_depends_on_nothing_but_the_group() -> None:
    right = np.random.default_rng(1).random(100) < 0.8
    first = measure_group("by", "a", range(50), measured(right), 50)
    measure_group("by", "b", range(50, 100), measured(right), 50)
    assert measure_group("by", "a", range(50), measured(right), 50).intervals == first.intervals


def test_the_largest_gap_and_groups_too_small_for_one() -> None:
    right = np.concatenate([np.arange(100) % 10 != 0, np.arange(100) % 2 == 0, np.zeros(LEAST_IMAGES - 1, dtype=bool)])
    sizes = {"good": range(100), "bad": range(100, 200), "few": range(200, 200 + LEAST_IMAGES - 1)}
    groups = [measure_group("by", name, places, measured(right), 300) for name, places in sizes.items()]
    assert not groups[2].intervals
    assert groups[2].images == LEAST_IMAGES - 1
    gap = largest_gap(groups, "top1")
    assert gap is not None
    assert (gap.highest, gap.lowest, gap.gap) == ("good", "bad", 40)
    assert 25 < gap.low < 40 < gap.high < 55
    assert largest_gap(groups[1:], "top1") is None


def test_columns_in_pairs_and_values_in_quarters() -> None:
    columns = {"sex": ["f", "m", "f"], "age": ["old", "old", "young"]}
    assert pairs_of(columns) == {"sex × age": ["f, old", "m, old", "f, young"]}
    assert places_by_value(columns["sex"]) == {"f": [0, 2], "m": [1]}
    names = in_quarters(list(range(1, 101)))
    assert {name: names.count(name) for name in sorted(set(names))} == {
        "1: up to 25.75": 25,
        "2: 25.75 to 50.5": 25,
        "3: 50.5 to 75.25": 25,
        "4: 75.25 to 100": 25,
    }
    dates = in_quarters([float(f"202401{day:02}") for day in range(1, 21)])
    assert list(dict.fromkeys(dates)) == [
        "1: up to 20240105.8",
        "2: 20240105.8 to 20240110.5",
        "3: 20240110.5 to 20240115.2",
        "4: 20240115.2 to 20240120",
    ]
    assert in_quarters([0.1234567] * 2) == ["1: up to 0.123457"] * 2
    assert in_quarters([7.0, 7.0, 7.0]) == ["1: up to 7"] * 3
