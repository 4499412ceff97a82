"""Calibration of scores: how often an answer with a score of 0.8 is right, and what makes it 80 %.

Reliability and ECE: Guo et al., arXiv 1706.04599, sections 2 and 4.2. Arrays are of M images and K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SCORE_BINS = 15
"""Bins of equal width in which scores are compared with accuracy, as in the paper."""
COLDEST, HOTTEST = 1 / 64, 64.0
"""Range in which a temperature is looked for."""


class Bin(NamedTuple):
    """Answers whose scores lie in a range.

    Args:
        low: scores above it, up to `high`; the first bin holds 0 too.
        high: upper end.
        images: how many answers there are.
        score: their mean score; nan of an empty bin.
        accuracy: share of them that is right; nan of an empty bin.
    """

    low: float
    high: float
    images: int
    score: float
    accuracy: float


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = SCORE_BINS) -> list[Bin]:
    """Scores `[M]` and whether the answers are right `[M]`, compared in bins of equal width."""
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, bins - 1)
    found = []
    for place in range(bins):
        inside = places == place
        means = (scores[inside].mean(), right[inside].mean()) if inside.any() else (np.nan, np.nan)
        found.append(Bin(float(edges[place]), float(edges[place + 1]), int(inside.sum()), *map(float, means)))
    return found


def calibration_error(scores: np.ndarray, right: np.ndarray, bins: int = SCORE_BINS) -> float:
    """Expected calibration error (ECE), from 0 to 1: the bins' mean distance of score and accuracy, by images."""
    parts = [each for each in reliability(scores.astype(np.float64), right, bins) if each.images]
    return sum(each.images * abs(each.score - each.accuracy) for each in parts) / max(1, len(scores))


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The number by which to divide logits `[M, K]` for the lowest cross-entropy with the true classes `[M]`.

    It lies between `COLDEST` and `HOTTEST`: where every answer is right, the lowest cross-entropy is that of 0.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return cross_entropy(logits, targets, np.exp(log_temperature))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def cross_entropy(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> float:
    """Mean cross-entropy of logits `[M, K]`, divided by a temperature, with the true classes `[M]`."""
    from scipy.special import logsumexp

    scaled = logits.astype(np.float64) / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(targets)), targets]))


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities `[M, K]` of logits divided by a temperature."""
    from scipy.special import softmax

    return softmax(logits.astype(np.float64) / temperature, axis=1)


def brier_score(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean over images of the squared distance of probabilities `[M, K]` from the true class `[M]`, from 0 to 2."""
    off = probabilities.astype(np.float64).copy()
    off[np.arange(len(targets)), targets] -= 1
    return float((off**2).sum(1).mean())


class TemperatureFit(NamedTuple):
    """A temperature, and what it changes on images that it was not fitted on.

    Args:
        temperature: fitted on all images.
        ece: expected calibration error without it, from 0 to 1.
        ece_calibrated: that of each half of the images at the temperature of the other half.
        brier: Brier score without it.
        brier_calibrated: likewise at the other half's temperature.
        images: number of images.
    """

    temperature: float
    ece: float
    ece_calibrated: float
    brier: float
    brier_calibrated: float
    images: int


def cross_fit(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit | None:
    """Fit a temperature to logits `[M, K]` and true classes `[M]`; None for fewer than two images.

    A half has every second image of each class: were it every second image, each half could be of one class, for in a
    table those may alternate.
    """
    if len(targets) < 2:
        return None
    before, after = softened(logits, 1.0), np.empty(logits.shape)
    by_class = np.argsort(targets, kind="stable")
    for own, other in ((by_class[::2], by_class[1::2]), (by_class[1::2], by_class[::2])):
        after[own] = softened(logits[own], fit_temperature(logits[other], targets[other]))

    def ece(probabilities: np.ndarray) -> float:
        return calibration_error(probabilities.max(1), probabilities.argmax(1) == targets)

    return TemperatureFit(
        fit_temperature(logits, targets),
        ece(before),
        ece(after),
        brier_score(before, targets),
        brier_score(after, targets),
        len(targets),
    )


HAIR = 1e-4
"""Distance of a threshold from the last score that counts, at most: another batch, engine or precision changes last
digits, which shall decide nothing."""


class Threshold(NamedTuple):
    """The least score of an answer that counts, and the F1 from 0 to 1 that it gives."""

    score: float
    f1: float


def best_threshold(scores: np.ndarray, right: np.ndarray, true: int) -> Threshold:
    """The least score that counts, for the highest F1 (of equal ones the highest): `HAIR` below the last score that
    does, or halfway to the next lower one.

    Args:
        scores: of all answers `[M]`.
        right: whether each answer is right `[M]`.
        true: right answers that there could be, found or not.
    """
    if not len(scores) or not true:
        return Threshold(0.5, 0.0)
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(right[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # answers of one score count together
    f1 = np.where(last, 2 * hits / (np.arange(1, len(ranked) + 1) + true), -1.0)
    place = int(f1.argmax())
    score = float(ranked[place])
    lower = float(ranked[place + 1]) if place + 1 < len(ranked) else 0.0
    return Threshold(max((score + lower) / 2, score - HAIR), float(f1[place]))


def thresholds_stored(best: Sequence[Threshold], images: int) -> dict[str, Any]:
    """Thresholds in the order of the classes, with F1 in percent, as they are stored with weights."""
    return {
        "thresholds": [each.score for each in best],
        "f1": [round(100 * each.f1, 2) for each in best],
        "images": images,
    }


def coverage_curve(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the images that are answered, the surest first, and the accuracy among them `[M]` each.

    The rest is answered with "unsure" (El-Yaniv and Wiener, JMLR 2010). Images of one score are answered together:
    each has the accuracy of all down to that score.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(right[order])
    ends = np.searchsorted(-ranked, -ranked, side="right")
    return ends / len(scores), hits[ends - 1] / ends
