"""The files a classification run ends with: where the model is right, and where it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from convnext.analysis.calibration import coverage_curve
from convnext.data.image_set import ImageSet
from convnext.reports.plots import plot_confusion, plot_curves, plot_gallery
from convnext.reports.tables import Table
from convnext.tasks.classify.metrics import (
    Answers,
    MultiLabelPredictions,
    Predictions,
    accuracy_per_class,
    confusion_matrix,
    confusions,
)
from convnext.tasks.classify.quality import binary_scores, curve_figures, scores_of
from convnext.tasks.classify.quality_plots import plot_class_curves, plot_reliability
from convnext.weights.class_names import short_names

MISTAKES = 24
COVERAGE_COLUMNS = ("least_score", "answered", "right")


def write_report(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    score: str,
    predictions: Answers,
    samples: ImageSet,
    mode: str,
    white: int,
) -> None:
    """Write `curves.png`, `mistakes.png`, what `write_quality` does and, for single labels, `confusion.png` into
    `folder`.

    More classes than a matrix is made for get `confusions.csv` instead. `mode` and `white` say how images are read.
    """
    plot_curves(rows, score, folder / "curves.png")
    write_quality(folder, predictions, samples.classes)
    if isinstance(predictions, Predictions):
        matrix = confusion_matrix(predictions, len(samples.classes))
        if matrix is not None:
            plot_confusion(matrix, short_names(samples.classes), folder / "confusion.png")
        else:
            columns = ("true", "predicted", "images")
            Table(folder, "confusions.csv").write(confusions(predictions, samples.classes), columns)
    plot_mistakes(predictions, samples, mode, white, folder / "mistakes.png")


def write_quality(folder: Path, predictions: Answers, classes: Sequence[str]) -> None:
    """Write `per_class.csv`, `reliability.png` and, where scores were kept, `class_curves.png` into `folder`; for
    single labels also `coverage.csv`."""
    table, figures = accuracy_per_class(predictions, classes), curve_figures(predictions)
    whole = [{**row, **own} for row, own in zip(table, figures, strict=True)] if figures else table
    Table(folder, "per_class.csv").write(whole)
    if figures:
        plot_class_curves(*binary_scores(predictions), short_names(classes), folder / "class_curves.png")
    if isinstance(predictions, MultiLabelPredictions):
        scores, truth = binary_scores(predictions)
        sure, right = np.maximum(scores, 1 - scores).ravel(), ((scores > 0.5) == truth).ravel()
        plot_reliability(sure, right, folder / "reliability.png")
        return
    scores, right = scores_of(predictions)
    plot_reliability(scores, right, folder / "reliability.png")
    Table(folder, "coverage.csv").write(coverage_rows(scores, right), COVERAGE_COLUMNS)


def coverage_rows(scores: np.ndarray, right: np.ndarray) -> Iterator[dict[str, float]]:
    """How many images are answered and how many of those are right, in percent, where answers with lower scores are
    "unsure": a row for each tenth of the images."""
    coverage, accuracy = coverage_curve(scores, right)
    ranked = np.sort(scores)[::-1]
    for tenth in range(1, 11):
        place = -(-tenth * len(ranked) // 10) - 1
        yield {
            "least_score": round(float(ranked[place]), 6),
            "answered": round(100 * float(coverage[place]), 2),
            "right": round(100 * float(accuracy[place]), 2),
        }


def plot_mistakes(predictions: Answers, samples: ImageSet, mode: str, white: int, path: Path) -> None:
    """The images the model is most sure and most wrong about; no file where it makes no mistake."""
    wrongness, wrong = _wrongness(predictions)
    order = [int(i) for i in wrongness.masked_fill(~wrong, -1).argsort(descending=True)[: int(wrong.sum())]]
    if not order:
        return
    images, captions, names = [], [], short_names(samples.classes)
    for i in order[:MISTAKES]:
        images.append(samples.open(int(predictions.indices[i]), mode, white))
        captions.append(_caption(predictions, i, names))
    plot_gallery(images, captions, f"the {len(images)} worst of {len(order)} mistakes", path)


def _wrongness(predictions: Answers) -> tuple[Tensor, Tensor]:
    """How wrong the answer on each image is, from 0 to 1, and whether it is a mistake."""
    if isinstance(predictions, MultiLabelPredictions):
        wrongness = (predictions.logits.sigmoid() - predictions.targets).abs().amax(1)
        return wrongness, wrongness > 0.5
    return predictions.scores - predictions.true_scores, ~predictions.right


def _caption(predictions: Answers, place: int, names: Sequence[str]) -> str:
    """Answer and truth, for the caption of an image."""
    if isinstance(predictions, MultiLabelPredictions):
        scores, targets = predictions.logits[place].sigmoid(), predictions.targets[place]
        worst = int((scores - targets).abs().argmax())
        return f"{names[worst]} {scores[worst]:.2f}\nis {'so' if targets[worst] else 'not so'}"
    guess, target = int(predictions.guesses[place]), int(predictions.targets[place])
    return f"{names[guess]} {predictions.scores[place]:.2f}\nis {names[target]}"
