"""Classification accuracy: top-1 and top-5 in percent, per class, and mean average precision for multi-label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.data.loader import Batch
from convnext.errors import InputError


@dataclass(frozen=True)
class Predictions:
    """A model's logits on a set of images, with the truth.

    `logits` is `[M, K]`; `targets` `[M]` class indices, or `[M, K]` zeros and ones for multi-label;
    `indices` `[M]` the images' places in the set; `unreadable` the places and reasons of those left out.
    """

    logits: Tensor
    targets: Tensor
    indices: Tensor
    unreadable: list[tuple[int, str]]


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> Predictions:
    """Run a model over batches, in fp32."""
    model.eval()
    logits, targets, indices, unreadable = [], [], [], []
    for batch in batches:
        unreadable += batch.unreadable
        if len(batch.indices):
            logits.append(model(batch.on(device)).float().cpu())
            targets.append(batch.targets)
            indices.append(batch.indices)
    if not logits:
        return Predictions(torch.empty(0, 0), torch.empty(0), torch.empty(0), unreadable)
    return Predictions(torch.cat(logits), torch.cat(targets), torch.cat(indices), unreadable)


def merge(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several processes on parts of a set, in the set's order."""
    unreadable = sorted(pair for part in parts for pair in part.unreadable)
    read = [part for part in parts if len(part.logits)] or parts[:1]
    logits, targets, indices = (
        torch.cat([getattr(part, name) for part in read]) for name in ("logits", "targets", "indices")
    )
    order = indices.argsort()
    return Predictions(logits[order], targets[order], indices[order], unreadable)


def accuracy(predictions: Predictions) -> dict[str, float]:
    """`top1`, `top5` (with more than five classes) and `val_loss`; for multi-label `mAP` and `val_loss`.

    `InputError` if no image could be read.
    """
    if not len(predictions.logits):
        reason = predictions.unreadable[0][1] if predictions.unreadable else "the set is empty"
        raise InputError(f"no image could be read: {reason}")
    logits, targets = predictions.logits, predictions.targets
    if targets.ndim == 2:
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        return {"mAP": round(100 * mean_average_precision(logits, targets), 4), "val_loss": round(loss.item(), 6)}
    metrics = {"top1": round(100 * (logits.argmax(1) == targets).double().mean().item(), 4)}
    if logits.shape[1] > 5:
        hits = (logits.topk(5).indices == targets[:, None]).any(1)
        metrics["top5"] = round(100 * hits.double().mean().item(), 4)
    metrics["val_loss"] = round(F.cross_entropy(logits, targets).item(), 6)
    return metrics


def mean_average_precision(logits: Tensor, targets: Tensor) -> float:
    """Mean of the classes' average precision, over classes with at least one positive image."""
    from sklearn.metrics import average_precision_score

    present = targets.sum(0) > 0
    return float(average_precision_score(targets[:, present].numpy(), logits[:, present].numpy(), average="macro"))


def per_class(predictions: Predictions, classes: Sequence[str]) -> list[dict[str, str | float | int]]:
    """Precision, recall, F1 (percent) and image count of each class; multi-label counts a score above 0.5 as yes."""
    from sklearn.metrics import precision_recall_fscore_support

    truth, guess = predictions.targets.numpy(), decisions(predictions).numpy()
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, guess, labels=np.arange(len(classes)), zero_division=0.0
    )
    return [
        {
            "class": name,
            "images": int(support[i]),
            "precision": round(100 * float(precision[i]), 2),
            "recall": round(100 * float(recall[i]), 2),
            "f1": round(100 * float(f1[i]), 2),
        }
        for i, name in enumerate(classes)
    ]


def decisions(predictions: Predictions) -> Tensor:
    """The predicted class `[M]`, or for multi-label zeros and ones `[M, K]`."""
    logits = predictions.logits
    return (logits > 0).long() if predictions.targets.ndim == 2 else logits.argmax(1)


def confusion_matrix(predictions: Predictions, classes: int) -> Tensor:
    """Counts `[K, K]` of true class (rows) and predicted class (columns)."""
    pairs = predictions.targets * classes + decisions(predictions)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)
