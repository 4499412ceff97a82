"""Quality of a classifier's answers beyond accuracy: balance over classes, calibration, and curves by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from convnext.analysis.calibration import best_threshold, calibration_error, cross_fit, thresholds_stored
from convnext.analysis.costs import Costs
from convnext.errors import InputError
from convnext.tasks.classify.metrics import Answers, MultiLabelPredictions, Predictions, average_precisions


def quality(predictions: Answers) -> dict[str, float]:
    """`balanced_accuracy`, `macro_f1` and `ece` in percent, and `brier`, from 0 to 2; of several labels the last three.

    Means over classes are of those that some image has; F1 also of those that were answered. Of several labels, each
    answer to each class counts for itself.
    """
    if isinstance(predictions, MultiLabelPredictions):
        scores, truth = binary_scores(predictions)
        yes = predictions.answers.numpy()
        both, answered, images = (truth & yes).sum(0), yes.sum(0), truth.sum(0)
        sure = np.where(scores > 0.5, scores, 1 - scores)
        ece = calibration_error(sure.ravel(), ((scores > 0.5) == truth).ravel())
        brier = float(((scores - truth) ** 2).mean())
        return {"macro_f1": _macro_f1(both, answered, images), "ece": round(100 * ece, 4), "brier": round(brier, 6)}
    both, answered, images = counts_of(predictions)
    recall = both[images > 0] / images[images > 0]
    ece = calibration_error(*scores_of(predictions))
    return {
        "balanced_accuracy": round(100 * float(recall.mean()), 4),
        "macro_f1": _macro_f1(both, answered, images),
        "ece": round(100 * ece, 4),
        "brier": round(predictions.briers.double().mean().item(), 6),
    }


def counts_of(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of each class that are right, that are answered with it, and that show it, `[K]` each."""
    right = predictions.targets[predictions.right]
    columns = (right, predictions.guesses, predictions.targets)
    right_counts, answered, images = (np.bincount(c.numpy(), minlength=predictions.classes) for c in columns)
    return right_counts, answered, images


def _macro_f1(both: np.ndarray, answered: np.ndarray, images: np.ndarray) -> float:
    there = answered + images > 0
    return round(100 * float((2 * both[there] / (answered + images)[there]).mean()), 4) if there.any() else 0.0


def scores_of(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the answers and whether they are right `[M]` each."""
    return predictions.scores.double().numpy(), predictions.right.numpy()


def binary_scores(predictions: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Scores `[M, K]`, and whether an image shows a class `[M, K]`; of single labels, whose logits were kept."""
    if isinstance(predictions, MultiLabelPredictions):
        return predictions.logits.double().sigmoid().numpy(), predictions.targets.bool().numpy()
    assert predictions.logits is not None
    targets = torch.nn.functional.one_hot(predictions.targets, predictions.classes)
    return predictions.logits.double().softmax(1).numpy(), targets.bool().numpy()


def curve_figures(predictions: Answers) -> list[dict[str, float | str]]:
    """`auroc` and `average_precision` of each class against all others, in percent; empty text where a class has no
    images, or all. No rows where logits were not kept, or are not finite."""
    from sklearn.metrics import roc_auc_score

    if predictions.logits is None or not predictions.logits.isfinite().all():
        return []
    scores, truth = binary_scores(predictions)
    precisions = average_precisions(torch.from_numpy(scores), torch.from_numpy(truth))
    rows: list[dict[str, float | str]] = []
    for k, precision in enumerate(precisions):
        both = 0 < truth[:, k].sum() < len(truth)
        auroc: float | str = round(100 * roc_auc_score(truth[:, k], scores[:, k]), 2) if both else ""
        rows.append({"auroc": auroc, "average_precision": "" if np.isnan(precision) else round(100 * precision, 2)})
    return rows


def decided(predictions: Predictions, costs: Costs) -> Predictions:
    """Predictions with the decisions that are expected to cost least. `InputError` where scores were not kept."""
    if predictions.logits is None:
        raise InputError("--costs needs every score, and there are too many to keep: measure the data in parts")
    cheapest = costs.cheapest(predictions.logits.double().softmax(1).numpy())
    return replace(predictions, decisions=torch.from_numpy(cheapest))


def costs_of(predictions: Predictions, costs: Costs) -> np.ndarray:
    """Cost of the decision about each image, `[M]`."""
    assert predictions.decisions is not None
    return costs.matrix[predictions.targets.numpy(), predictions.decisions.numpy()]


def cost_figures(predictions: Predictions, costs: Costs, classes: Sequence[str]) -> dict[str, float]:
    """Mean cost of an image, `cost_of_decisions` by those that are expected to cost least, and `cost_of_answers`, where
    the likeliest class is the decision; that only where all classes are decisions."""
    truth = predictions.targets.numpy()
    found = {"cost_of_decisions": float(costs_of(predictions, costs).mean())}
    if set(classes) <= set(costs.decisions):
        columns = np.array([costs.decisions.index(name) for name in classes])
        found["cost_of_answers"] = float(costs.matrix[truth, columns[predictions.guesses.numpy()]].mean())
    return {name: round(value, 6) for name, value in found.items()}


def calibration_of(predictions: Answers) -> dict[str, Any] | None:
    """Calibration fitted to answers on held-out images, as it is stored with weights; None where it cannot be fitted.

    Of single labels, `temperature`, and the figures with and without it; of several labels, `thresholds` by class, the
    least score of a "yes".
    """
    if isinstance(predictions, MultiLabelPredictions):
        scores, truth = binary_scores(predictions)
        best = [best_threshold(scores[:, k], truth[:, k], int(truth[:, k].sum())) for k in range(scores.shape[1])]
        return thresholds_stored(best, len(truth))
    if predictions.logits is None or not predictions.logits.isfinite().all():
        return None
    fit = cross_fit(predictions.logits.numpy(), predictions.targets.numpy())
    if fit is None:
        return None
    percents = {name: round(100 * getattr(fit, name), 4) for name in ("ece", "ece_calibrated")}
    others = {name: round(getattr(fit, name), 6) for name in ("temperature", "brier", "brier_calibrated")}
    return {**others, **percents, "images": fit.images}
