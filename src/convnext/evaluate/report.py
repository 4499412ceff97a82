"""The files a classification run ends with: where the model is right, and where it fails."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convnext.data.samples import Samples
from convnext.evaluate.accuracy import Predictions, confusion_matrix, decisions, per_class
from convnext.evaluate.figures import plot_confusion, plot_curves, plot_gallery
from convnext.files import whole_file

MISTAKES = 24


def write_report(
    folder: Path, rows: Sequence[dict[str, Any]], score: str, predictions: Predictions, samples: Samples, mode: str
) -> None:
    """Write `curves.png`, `per_class.csv`, `mistakes.png` and, for single labels, `confusion.png` into `folder`."""
    plot_curves(rows, score, folder / "curves.png")
    table = per_class(predictions, samples.classes)
    with whole_file(folder / "per_class.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    if not samples.multi_label:
        plot_confusion(confusion_matrix(predictions, len(samples.classes)), samples.classes, folder / "confusion.png")
    plot_mistakes(predictions, samples, mode, folder / "mistakes.png")


def plot_mistakes(predictions: Predictions, samples: Samples, mode: str, path: Path) -> None:
    """The images the model is most sure and most wrong about; no file where it makes no mistake."""
    logits, targets, guess = predictions.logits, predictions.targets, decisions(predictions)
    if samples.multi_label:
        scores = logits.sigmoid()
        wrongness, worst_class = (scores - targets).abs().max(1)
        wrong = wrongness > 0.5
    else:
        scores = logits.softmax(1)
        worst_class = guess
        wrongness = scores.gather(1, guess[:, None])[:, 0] - scores.gather(1, targets[:, None])[:, 0]
        wrong = guess != targets
    order = [int(i) for i in wrongness.masked_fill(~wrong, -1).argsort(descending=True)[: int(wrong.sum())]]
    if not order:
        return
    images, captions = [], []
    for i in order[:MISTAKES]:
        images.append(samples.open(int(predictions.indices[i]), mode))
        k = int(worst_class[i])
        truth = "not so" if samples.multi_label and not targets[i, k] else "so" if samples.multi_label else None
        truth = truth or samples.classes[int(targets[i])]
        captions.append(f"{samples.classes[k]} {scores[i, k]:.2f}\nis {truth}")
    plot_gallery(images, captions, f"the {len(images)} worst of {len(order)} mistakes", path)
