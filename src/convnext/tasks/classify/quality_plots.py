"""Plots of a classifier's scores: how far they can be trusted, and what they tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from convnext.analysis.calibration import calibration_error, coverage_curve, reliability
from convnext.reports.plots import BLUE, ORANGE, save, shown, style_axes

NAMED = 5
"""Classes with the lowest average precision, whose curves are named."""


def plot_reliability(scores: np.ndarray, right: np.ndarray, path: Path) -> None:
    """Accuracy of the answers by their score in bins (a reliability diagram), and over the share that is answered."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, centre = figure.subplots(1, 2)
    bins = [each for each in reliability(scores, right) if each.images]
    width = bins[0].high - bins[0].low
    left.bar([each.low for each in bins], [each.accuracy for each in bins], width, align="edge", color=BLUE, alpha=0.8)
    left.plot([each.score for each in bins], [each.accuracy for each in bins], color=ORANGE, marker=".")
    left.plot([0, 1], [0, 1], color="grey", linestyle=":")
    ece = 100 * calibration_error(scores, right)
    left.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1), title=f"ECE {ece:.1f} %")
    coverage, accuracy = coverage_curve(scores, right)
    centre.plot(100 * coverage, 100 * accuracy, color=BLUE)
    centre.set(
        xlabel="images answered, the surest first, %", ylabel="right among them, %", title="accuracy by coverage"
    )
    for axes in (left, centre):
        style_axes(axes)
    save(figure, path)


def plot_class_curves(scores: np.ndarray, truth: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Precision by recall, and ROC curves, of each class against all others; the hardest are named.

    Args:
        scores: `[M, K]`.
        truth: whether an image shows a class `[M, K]`.
        classes: K names.
        path: the PNG file.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

    measured = [k for k in range(len(classes)) if 0 < truth[:, k].sum() < len(truth)]
    worst = sorted(measured, key=lambda k: average_precision_score(truth[:, k], scores[:, k]))[:NAMED]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, centre = figure.subplots(1, 2)
    for k in [*(k for k in measured if k not in worst), *worst]:
        style = {"label": shown(classes[k])} if k in worst else {"color": "grey", "alpha": 0.3, "linewidth": 0.8}
        precision, recall, _ = precision_recall_curve(truth[:, k], scores[:, k])
        false, true, _ = roc_curve(truth[:, k], scores[:, k])
        left.plot(recall, precision, **style)
        centre.plot(false, true, **style)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    centre.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.02))
    for axes in (left, centre):
        style_axes(axes)
    if worst:
        lines, labels = left.get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", frameon=False, ncols=2, fontsize=8)
    save(figure, path)
