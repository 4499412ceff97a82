"""Figures of robustness by hand."""

from __future__ import annotations

import pytest

from convnext.analysis.robustness import ALEXNET, robustness_of
from convnext.data.corruptions import COMMON


def test_by_hand() -> None:
    found = robustness_of(80.0, {"fog": [70, 50], "snow": [60, 20]}, imagenet=True)
    assert found.mean == 50
    assert found.kept == 62.5
    assert found.relative_error == 250  # errors 40 and 60 of 20
    assert found.mce is None  # not all fifteen


def test_mce_is_of_each_corruptions_error_over_alexnets() -> None:
    values = {name: [90, 80, 70, 60, 50] for name in COMMON}  # a mean error of 30 %
    found = robustness_of(95.0, values, imagenet=True)
    assert found.mce == pytest.approx(sum(30 / ALEXNET[name] for name in COMMON) / 15)
    assert robustness_of(95.0, values, imagenet=False).mce is None
    own = {name: [100 * (1 - ALEXNET[name])] * 5 for name in COMMON}
    assert robustness_of(56.5, own, imagenet=True).mce == pytest.approx(100)


def test_shares_of_nothing() -> None:
    assert robustness_of(0.0, {"fog": [0.0]}, imagenet=False).kept is None
    assert robustness_of(100.0, {"fog": [50.0]}, imagenet=False).relative_error is None
