"""Sentences on the results of a classification run: the metrics, and where the model is worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from convnext.printing import counted, quoted, share
from convnext.tasks.classify.metrics import (
    Answers,
    MultiLabelPredictions,
    Predictions,
    average_precisions,
    confusions,
)
from convnext.tasks.weakest import unmeasured, well_measured

NO_LABEL = "no validation image has a label"


def accuracy_in_words(metrics: Mapping[str, float], images: int) -> str:
    """Sentence on the metrics that `accuracy` computed on this number of validation images."""
    where = counted(images, "validation image")
    if "mAP" in metrics:
        best = "100 % if the images that show a class have its highest scores"
        return f"{metrics['mAP']:.2f} % mean average precision (mAP) on {where}, {best}"
    if "top1" not in metrics:
        return f"nothing was measured: {NO_LABEL}"
    text = f"{metrics['top1']:.2f} % of {where} are right (top1)"
    if "top5" in metrics:
        text += f", for {metrics['top5']:.2f} % the right class is among the five likeliest (top5)"
    return text


def weakest_class(predictions: Answers, names: Sequence[str]) -> str:
    """The class of the lowest accuracy, or of several labels of the lowest average precision, and what it is taken for.

    Args:
        predictions: of the validation images, at least one.
        names: what the classes are called.
    """
    if isinstance(predictions, MultiLabelPredictions):
        return _lowest_precision(predictions, names)
    if len(names) == 1:
        return "nothing to compare: there is one class"
    hits = predictions.targets[predictions.right]
    images, right = (np.bincount(column.numpy(), minlength=len(names)) for column in (predictions.targets, hits))
    lacking = unmeasured(int((images == 0).sum()), len(names))
    if len(hits) == len(predictions.targets):
        return f"nothing: {len(hits):,} of {len(hits):,} validation images are right{lacking}"
    places = [k for k in well_measured(images.tolist()) if right[k] < images[k]]
    # Where they have no mistakes, those of classes with few images are the only ones there are.
    places = places or np.flatnonzero(right < images).tolist()
    worst = min(places, key=lambda k: (right[k] / images[k], -images[k]))
    guess, times = _mostly_taken_for(predictions, worst)
    text = (
        f"{right[worst]:,} of {images[worst]:,} {quoted(names[worst])} images right "
        f"({share(right[worst], images[worst])}); most often taken for {quoted(names[guess])}: {times:,}"
    )
    first = next(confusions(predictions, names))
    if int(first["images"]) > times:
        pair = f"{quoted(first['true'])} taken for {quoted(first['predicted'])}"
        text += f"; the most frequent mistake is {pair}: {first['images']:,}"
    return text + lacking


def _mostly_taken_for(predictions: Predictions, label: int) -> tuple[int, int]:
    """The class that images of another are most often taken for, and how often."""
    wrong = (predictions.targets == label) & ~predictions.right
    counts = predictions.guesses[wrong].bincount()
    return int(counts.argmax()), int(counts.max())


def _lowest_precision(predictions: MultiLabelPredictions, names: Sequence[str]) -> str:
    images = predictions.targets.sum(0).int().tolist()
    if not any(images):
        return f"not known: {NO_LABEL}"
    precisions = average_precisions(predictions.logits, predictions.targets)
    lacking = unmeasured(images.count(0), len(names))
    if np.nanmin(precisions) == 1:
        return f"nothing: for every class, the images that show it have the highest scores{lacking}"
    places = [k for k in well_measured(images) if precisions[k] < 1] or np.flatnonzero(precisions < 1).tolist()
    worst = min(places, key=lambda k: (precisions[k], -images[k]))
    shown = f"{images[worst]:,} of {len(predictions.targets):,} validation images show it"
    return f"{quoted(names[worst])} has the lowest average precision, {share(precisions[worst])}; {shown}{lacking}"
