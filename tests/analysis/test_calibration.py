"""Calibration by hand, by brute force, and on images that it was not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.analysis.calibration import (
    best_threshold,
    brier_score,
    calibration_error,
    coverage_curve,
    cross_entropy,
    cross_fit,
    fit_temperature,
    reliability,
    softened,
)


def drawn(images: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of five classes, and classes drawn from their probabilities at a temperature."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(size=(images, 5)) * 4
    probabilities = softened(logits, temperature)
    targets = np.array([draws.choice(5, p=own) for own in probabilities])
    return logits, targets


def test_error_by_hand() -> None:
    scores = np.array([0.9, 0.9, 0.6, 0.6])
    right = np.array([True, False, True, True])
    assert calibration_error(scores, right, bins=2) == pytest.approx(abs(0.75 - 0.75))
    assert calibration_error(scores, right, bins=10) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_bins_hold_every_answer_once() -> None:
    scores = np.array([0.0, 1 / 15, 0.5, 1.0])
    bins = reliability(scores, np.ones(4, dtype=bool))
    assert [each.images for each in bins if each.images] == [2, 1, 1]
    assert sum(each.images for each in bins) == 4


def test_brier_score_by_hand() -> None:
    assert brier_score(np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([0, 0])) == pytest.approx((0.08 + 0.98) / 2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_answers_is_found(temperature: float) -> None:
    logits, targets = drawn(20_000, temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_is_that_of_the_lowest_cross_entropy() -> None:
    logits, targets = drawn(500, 2.0)
    grid = np.linspace(0.5, 6, 551)
    best = grid[np.argmin([cross_entropy(logits, targets, each) for each in grid])]
    assert fit_temperature(logits, targets) == pytest.approx(best, abs=0.01)


def test_error_falls_on_images_that_it_was_not_fitted_on() -> None:
    logits, targets = drawn(4000, 3.0)
    temperature = fit_temperature(logits[:2000], targets[:2000])
    before, after = softened(logits[2000:], 1), softened(logits[2000:], temperature)
    rest = targets[2000:]
    errors = [calibration_error(each.max(1), each.argmax(1) == rest) for each in (before, after)]
    assert errors[1] < 0.3 * errors[0]
    fit = cross_fit(logits, targets)
    assert fit is not None
    assert fit.ece_calibrated < 0.3 * fit.ece
    assert fit.brier_calibrated < fit.brier


def test_halves_are_calibrated_by_each_other() -> None:
    """Logits of one half are of another scale: fitted on themselves, both would be calibrated well."""
    logits, targets = drawn(4000, 1.0)
    by_class = np.argsort(targets, kind="stable")
    logits[by_class[::2]] *= 4
    fit = cross_fit(logits, targets)
    assert fit is not None
    assert fit.ece_calibrated > fit.ece


def test_where_classes_alternate_each_half_has_all() -> None:
    """One class is answered too surely: a half of it alone would be calibrated by the others."""
    logits, targets = drawn(4000, 1.0)
    logits[targets == 0] *= 4
    own = np.flatnonzero(targets == 0)
    alternating = np.stack([own, np.flatnonzero(targets)[: len(own)]], axis=1).ravel()
    in_turn = np.sort(alternating)
    found = [cross_fit(logits[order], targets[order]) for order in (in_turn, alternating)]
    assert found[0] is not None
    assert found[0] == pytest.approx(found[1])


def test_where_every_answer_is_right_a_temperature_is_finite() -> None:
    logits = np.eye(4) * 5
    assert 0 < fit_temperature(logits, np.arange(4)) < 0.2


@pytest.mark.parametrize("seed", range(20))
def test_threshold_equals_a_search_over_all(seed: int) -> None:
    draws = np.random.default_rng(seed)
    scores, right = draws.integers(0, 12, 40) / 10, draws.random(40) < 0.4
    true = int(right.sum()) + 5

    def f1(least: float) -> float:
        counted = scores >= least
        return 2 * (right & counted).sum() / (counted.sum() + true)

    best = max((f1(least), least) for least in np.unique(scores))
    lower = max(scores[scores < best[1]], default=0.0)
    found = best_threshold(scores, right, true)
    assert (found.f1, found.score) == pytest.approx((best[0], best[1]), abs=2e-4)
    assert lower < found.score < best[1] or found.score == best[1] == 0


def test_a_threshold_lies_between_scores_of_any_precision() -> None:
    """It is fitted in float64 and compared with float32, of other batches too."""
    logits = np.random.default_rng(0).normal(0, 2, 1000)
    scores = 1 / (1 + np.exp(-logits))
    for place in range(0, 1000, 50):
        found = best_threshold(scores, scores >= scores[place], int((scores >= scores[place]).sum()))
        narrow = scores.astype(np.float32)
        assert (found.f1, float(narrow[place]) >= found.score) == (1.0, True)
        assert (narrow.astype(float) >= found.score).sum() == (scores >= scores[place]).sum()


def test_a_class_that_nobody_saw_keeps_its_threshold() -> None:
    assert best_threshold(np.array([0.9]), np.array([False]), 0) == (0.5, 0)
    assert best_threshold(np.array([]), np.array([], dtype=bool), 3) == (0.5, 0)


def test_coverage_by_hand() -> None:
    coverage, accuracy = coverage_curve(np.array([0.5, 0.9, 0.7, 0.7]), np.array([False, True, True, False]))
    assert coverage.tolist() == [0.25, 0.75, 0.75, 1.0]
    assert accuracy == pytest.approx([1, 2 / 3, 2 / 3, 0.5])
