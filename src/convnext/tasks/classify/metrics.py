"""Classification accuracy: top-1 and top-5 in percent, per class, and mean average precision for multi-label.

Of single labels, a few numbers an image are kept, and its logits where all of a set's are no more than `MOST_LOGITS`:
those of ImageNet-22K would take 245 GB. Average precision of several labels needs every score; they are kept up to
`MOST_SCORES`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.data.image_set import ImageSet
from convnext.data.loading import Batch
from convnext.errors import InputError

MOST_SCORES = 2**30
"""Scores of a multi-label evaluation that are kept: 4 GiB in fp32."""
MOST_LOGITS = 2**26
"""Logits of a set that are kept for calibration and curves: 256 MiB in fp32."""
LARGEST_MATRIX = 2000
"""Classes up to which a confusion matrix is made: 32 MB."""


@dataclass(frozen=True)
class Predictions:
    """Answers of a model about M images with one label each.

    Args:
        indices: the images' places in the set `[M]`.
        targets: true classes `[M]`.
        guesses: the classes of the highest logits `[M]`; of equal ones the first.
        ranks: how many classes stand above the true one `[M]`.
        losses: cross-entropy of each image, fp64 `[M]`.
        scores: probabilities of the guesses `[M]`.
        true_scores: probabilities of the true classes `[M]`.
        briers: squared distances of the probabilities from the true class, from 0 to 2 `[M]`.
        classes: how many there are.
        unreadable: places and reasons of images that could not be read.
        logits: `[M, classes]`, where there are not too many to keep.
        decisions: places of the decisions that are expected to cost least `[M]`, where a table of costs is given.
    """

    indices: Tensor
    targets: Tensor
    guesses: Tensor
    ranks: Tensor
    losses: Tensor
    scores: Tensor
    true_scores: Tensor
    briers: Tensor
    classes: int
    unreadable: list[tuple[int, str]]
    logits: Tensor | None = None
    decisions: Tensor | None = None

    @property
    def right(self) -> Tensor:
        """Whether each answer is right, `[M]`; one that is not a number never is, whatever class stands for it."""
        return self.ranks < 1


@dataclass(frozen=True)
class MultiLabelPredictions:
    """Answers of a model about M images with any number of labels each.

    Args:
        indices: the images' places in the set `[M]`.
        targets: zeros and ones `[M, K]`.
        logits: `[M, K]`.
        unreadable: places and reasons of images that could not be read.
        thresholds: the least score of a "yes" to each class; None: "yes" is a score above 0.5.
    """

    indices: Tensor
    targets: Tensor
    logits: Tensor
    unreadable: list[tuple[int, str]]
    thresholds: tuple[float, ...] | None = None

    @property
    def answers(self) -> Tensor:
        """Whether each image is answered with each class, `[M, K]`."""
        if self.thresholds is None:
            return self.logits > 0
        return self.logits.double().sigmoid() >= torch.tensor(self.thresholds, dtype=torch.float64)


Answers = Predictions | MultiLabelPredictions


@torch.no_grad()
def classify_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    temperature: float = 1.0,
    thresholds: Sequence[float] | None = None,
    keep_logits: bool = False,
) -> Answers:
    """Run a model over batches, its logits divided by a temperature; of single labels they are kept if so asked. Of
    several labels, `thresholds` are those of `MultiLabelPredictions`.

    `InputError` for more scores of several labels than can be kept.
    """
    model.eval()
    least = None if thresholds is None else tuple(thresholds)
    parts: list[Answers] = []
    singles = _Columns()
    unreadable: list[tuple[int, str]] = []
    kept = 0
    for batch in batches:
        unreadable += batch.unreadable
        if not len(batch.indices):
            continue
        logits = model(batch.on(device)).float() / temperature
        if batch.targets.ndim == 2:
            parts.append(MultiLabelPredictions(batch.indices, batch.targets, logits.cpu(), [], least))
            kept += logits.numel()
            if kept > MOST_SCORES:
                raise InputError(
                    f"average precision needs every score, and those of more than {kept // logits.shape[1]} images and "
                    f"{logits.shape[1]} classes take more than {MOST_SCORES / 2**28:.0f} GiB; measure the data in parts"
                )
        else:
            singles.add(_single(logits, batch.targets.to(device), batch.indices, keep_logits=keep_logits))
    if singles.classes:
        parts.append(singles.predictions())
    if parts:
        return _joined(parts, unreadable)
    nothing, none = torch.empty(0), torch.empty(0, dtype=torch.int64)
    return Predictions(none, none, none, none, nothing, nothing, nothing, nothing, 0, unreadable)


class _Columns:
    """Predictions of many batches, each column's bytes in one piece of memory.

    Small tensors kept from every batch would lie between the large ones that come and go, and the system's memory grows
    by all of those: 5 GB for 20,000 images and 21,841 classes.
    """

    def __init__(self) -> None:
        self.columns: dict[str, bytearray] = defaultdict(bytearray)
        self.types: dict[str, torch.dtype] = {}
        self.classes = 0

    def add(self, batch: Predictions) -> None:
        """Take in the predictions of a batch."""
        self.classes = batch.classes
        for field in fields(batch):
            value = getattr(batch, field.name)
            if isinstance(value, Tensor):
                self.types[field.name] = value.dtype
                self.columns[field.name] += value.numpy().tobytes()

    def predictions(self) -> Predictions:
        """The predictions of all batches, in the order they were added."""
        tensors = {name: torch.frombuffer(column, dtype=self.types[name]) for name, column in self.columns.items()}
        if "logits" in tensors:
            tensors["logits"] = tensors["logits"].view(-1, self.classes)
        return Predictions(classes=self.classes, unreadable=[], **tensors)


def _single(logits: Tensor, targets: Tensor, indices: Tensor, *, keep_logits: bool) -> Predictions:
    true = logits.gather(1, targets[:, None])
    # Of equal logits the first class counts as the higher, in every batch and on every machine.
    before = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
    ranks = ((logits > true) | ((logits == true) & before)).sum(1)
    highest = logits.amax(1, keepdim=True)
    ranks = ranks.masked_fill(highest[:, 0].isnan(), logits.shape[1])  # nothing stands above what is not a number
    guesses = (logits == highest).int().argmax(1)
    total = logits.logsumexp(1)
    true_scores = (true[:, 0] - total).exp()
    columns = {
        "targets": targets,
        "guesses": guesses,
        "ranks": ranks,
        "losses": (total - true[:, 0]).double(),
        "scores": (highest[:, 0] - total).exp(),
        "true_scores": true_scores,
        "briers": logits.softmax(1).square().sum(1) - 2 * true_scores + 1,
    }
    if keep_logits:
        columns["logits"] = logits
    on_cpu = {name: column.cpu() for name, column in columns.items()}
    return Predictions(indices=indices, classes=logits.shape[1], unreadable=[], **on_cpu)


def _joined(parts: Sequence[Answers], unreadable: list[tuple[int, str]]) -> Answers:
    """Join predictions in the set's order, in which sums do not depend on batches or processes."""
    first = parts[0]
    order = torch.cat([part.indices for part in parts]).argsort()
    columns: dict[str, Any] = {}
    for field in fields(first):
        value = getattr(first, field.name)
        if isinstance(value, Tensor):
            value = torch.cat([getattr(part, field.name) for part in parts])[order]
        columns[field.name] = value
    return type(first)(**{**columns, "unreadable": sorted(unreadable)})


def merge_answers(parts: Sequence[Answers]) -> Answers:
    """The predictions of several processes on parts of a set, in the set's order."""
    unreadable = [pair for part in parts for pair in part.unreadable]
    return _joined([part for part in parts if len(part.indices)] or parts[:1], unreadable)


def take_answers(predictions: Answers, places: Sequence[int]) -> Answers:
    """Predictions on the images at some places of a set, numbered anew, without logits of single labels.

    An image may come several times; those that could not be read do not come at all.
    """
    if isinstance(predictions, Predictions):
        predictions = replace(predictions, logits=None)
    wanted, known = torch.tensor(places, dtype=torch.int64), predictions.indices
    rows = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    there = known[rows] == wanted
    columns: dict[str, Any] = {
        field.name: value[rows[there]]
        for field in fields(predictions)
        if isinstance(value := getattr(predictions, field.name), Tensor)
    }
    return replace(predictions, **{**columns, "indices": there.nonzero().flatten()}, unreadable=[])


def accuracy(predictions: Answers) -> dict[str, float]:
    """`top1`, `top5` (with more than five classes) and `val_loss`; for multi-label `mAP`, if any image has a label, and
    `val_loss`.

    `InputError` if no image could be read.
    """
    if not len(predictions.indices):
        reason = predictions.unreadable[0][1] if predictions.unreadable else "the set is empty"
        raise InputError(f"no image could be read: {reason}")
    if isinstance(predictions, MultiLabelPredictions):
        logits, targets = predictions.logits, predictions.targets
        loss = F.binary_cross_entropy_with_logits(logits.double(), targets.double())
        metrics = {"mAP": round(100 * mean_average_precision(logits, targets), 4)} if targets.any() else {}
        return {**metrics, "val_loss": round(loss.item(), 6)}
    metrics = {"top1": _share(predictions.right)}
    if predictions.classes > 5:
        metrics["top5"] = _share(predictions.ranks < 5)
    metrics["val_loss"] = round(predictions.losses.mean().item(), 6)
    return metrics


def _share(right: Tensor) -> float:
    return round(100 * right.double().mean().item(), 4)


def mean_average_precision(logits: Tensor, targets: Tensor) -> float:
    """Mean of the classes' average precision, over classes with at least one positive image."""
    return float(np.nanmean(average_precisions(logits, targets)))


def average_precisions(logits: Tensor, targets: Tensor) -> np.ndarray:
    """Average precision of each class, from 0 to 1 `[K]`; nan of a class without a positive image."""
    from sklearn.metrics import average_precision_score

    logits = logits.nan_to_num(nan=torch.finfo(logits.dtype).min)  # what is not a number is no "yes"
    values = np.full(targets.shape[1], np.nan)
    for k in (targets.sum(0) > 0).nonzero().flatten().tolist():
        values[k] = average_precision_score(targets[:, k].numpy(), logits[:, k].numpy())
    return values


def accuracy_per_class(predictions: Answers, classes: Sequence[str]) -> list[dict[str, str | float | int]]:
    """Precision, recall, F1 (percent) and image count of each class."""
    if isinstance(predictions, MultiLabelPredictions):
        truth, guess = predictions.targets.bool(), predictions.answers
        support, guessed, right = (flags.sum(0).numpy() for flags in (truth, guess, truth & guess))
    else:
        hits = predictions.targets[predictions.right]
        columns = (predictions.targets, predictions.guesses, hits)
        support, guessed, right = (np.bincount(column.numpy(), minlength=len(classes)) for column in columns)
    rows: list[dict[str, str | float | int]] = []
    for name, images, answers, both in zip(classes, support.tolist(), guessed.tolist(), right.tolist(), strict=True):
        precision, recall = both / max(1, answers), both / max(1, images)
        f1 = 2 * both / max(1, images + answers)
        shares = {"precision": precision, "recall": recall, "f1": f1}
        rows.append({"class": name, "images": images, **{key: round(100 * share, 2) for key, share in shares.items()}})
    return rows


def confusion_matrix(predictions: Predictions, classes: int) -> Tensor | None:
    """Counts `[K, K]` of true class (rows) and predicted class (columns); None for more than `LARGEST_MATRIX`."""
    if classes > LARGEST_MATRIX:
        return None
    pairs = predictions.targets * classes + predictions.guesses
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def confusions(predictions: Predictions, classes: Sequence[str]) -> Iterator[dict[str, str | int]]:
    """A row for each pair of classes that were mistaken, the most frequent first: "true", "predicted", "images"."""
    wrong = ~predictions.right
    pairs, counts = (predictions.targets * len(classes) + predictions.guesses)[wrong].unique(return_counts=True)
    for place in counts.argsort(descending=True, stable=True).tolist():
        true, guess = divmod(int(pairs[place]), len(classes))
        yield {"true": classes[true], "predicted": classes[guess], "images": int(counts[place])}


def accuracy_rows(predictions: Answers, samples: ImageSet) -> Iterator[dict[str, Any]]:
    """A row an image: its path, true class, answer, the answer's score, whether it is right, and the cross-entropy as
    its cost.

    For multi-label, answers are the classes that are answered "yes"; several stand between "|".
    """
    names = samples.classes
    answers = predictions.answers if isinstance(predictions, MultiLabelPredictions) else predictions.guesses
    for place, index in enumerate(predictions.indices.tolist()):
        if isinstance(predictions, MultiLabelPredictions):
            scores = predictions.logits[place].sigmoid()
            true = predictions.targets[place].nonzero().flatten().tolist()
            found = answers[place].nonzero().flatten().tolist()
            score: Any = "|".join(f"{scores[k]:.6f}" for k in found)
            own = predictions.logits[place].double(), predictions.targets[place].double()
            cost = F.binary_cross_entropy_with_logits(*own).item()
            right = true == found
        else:
            true, found = [int(predictions.targets[place])], [int(answers[place])]
            score, cost = round(float(predictions.scores[place]), 6), float(predictions.losses[place])
            right = bool(predictions.right[place])
        texts = {"truth": "|".join(names[k] for k in true), "answer": "|".join(names[k] for k in found)}
        yield {"path": samples.sources[index], **texts, "score": score, "right": right, "cost": round(cost, 6)}
