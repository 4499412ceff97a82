"""Metrics against scikit-learn and by hand; and that they do not depend on batches, processes or their order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from convnext.data.image_set import ImageSet
from convnext.data.loading import Batch
from convnext.errors import InputError
from convnext.tasks.classify import metrics as module
from convnext.tasks.classify.metrics import (
    Answers,
    Predictions,
    accuracy,
    accuracy_per_class,
    accuracy_rows,
    classify_batches,
    confusion_matrix,
    confusions,
    merge_answers,
)

CPU = torch.device("cpu")


def data(classes: int = 7, images: int = 200, multi_label: bool = False) -> tuple[Tensor, Tensor]:
    """Logits and targets."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, generator=generator)
    if multi_label:
        return logits, (torch.rand(images, classes, generator=generator) < 0.3).float()
    return logits, torch.randint(0, classes, (images,), generator=generator)


def batches(logits: Tensor, targets: Tensor, size: int, order: list[int] | None = None) -> Iterator[Batch]:
    for chosen in torch.tensor(order or range(len(targets))).split(size):
        yield Batch(logits[chosen], targets[chosen], chosen, [])


def answered(logits: Tensor, targets: Tensor, size: int = 64) -> Answers:
    """By a model that gives its input back."""
    return classify_batches(torch.nn.Identity(), batches(logits, targets, size), CPU)


def test_accuracy_agrees_with_sklearn() -> None:
    logits, targets = data()
    ours, scores = accuracy(answered(logits, targets)), logits.softmax(1).numpy()
    assert ours["top1"] == pytest.approx(100 * sklearn_metrics.accuracy_score(targets, scores.argmax(1)), abs=1e-4)
    assert ours["top5"] == pytest.approx(100 * sklearn_metrics.top_k_accuracy_score(targets, scores, k=5), abs=1e-4)
    assert ours["val_loss"] == pytest.approx(sklearn_metrics.log_loss(targets, scores), abs=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("size", [1, 7, 200])
def test_figures_do_not_depend_on_batches_processes_or_order(multi_label: bool, size: int) -> None:
    logits, targets = data(multi_label=multi_label)
    expected = accuracy(answered(logits, targets))
    shares = [list(range(rank, 200, 3))[:: -1 if rank == 1 else 1] for rank in range(3)]
    parts = [classify_batches(torch.nn.Identity(), batches(logits, targets, size, share), CPU) for share in shares]
    assert accuracy(merge_answers(parts)) == expected
    assert accuracy(merge_answers(parts[::-1])) == expected
    assert accuracy(answered(logits, targets, size)) == expected


def test_of_equal_scores_the_first_class_counts() -> None:
    """Else a network that answers everything alike would have a top-1 that depends on the batch."""
    logits, targets = torch.zeros(7, 7), torch.arange(7)
    p = answered(logits, targets)
    assert isinstance(p, Predictions)
    assert p.guesses.tolist() == [0] * 7
    assert p.ranks.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert accuracy(p)["top1"] == pytest.approx(100 / 7, abs=1e-4)
    assert accuracy(p)["top5"] == pytest.approx(500 / 7, abs=1e-4)


def test_answers_that_are_no_numbers_are_wrong() -> None:
    logits, targets = torch.zeros(2, 7), torch.tensor([0, 1])
    logits[0, 3] = logits[1, 1] = float("nan")
    assert accuracy(answered(logits, targets))["top5"] == 0


def test_top5_needs_more_than_five_classes() -> None:
    assert "top5" not in accuracy(answered(*data(classes=5)))


def test_multi_label_is_mean_average_precision() -> None:
    logits, targets = data(multi_label=True)
    aps = [sklearn_metrics.average_precision_score(targets[:, k], logits[:, k]) for k in range(7)]
    assert accuracy(answered(logits, targets))["mAP"] == pytest.approx(100 * sum(aps) / 7, abs=1e-4)
    targets[:, 0] = 0  # a class without a positive image is left out
    assert accuracy(answered(logits, targets))["mAP"] == pytest.approx(100 * sum(aps[1:]) / 6, abs=1e-4)


def test_more_scores_than_can_be_kept_are_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SCORES", 100)
    with pytest.raises(InputError, match="of more than 64 images and 7 classes take more than"):
        answered(*data(multi_label=True))


def test_confusion_matrix_agrees_with_sklearn() -> None:
    logits, targets = data()
    p = answered(logits, targets)
    assert isinstance(p, Predictions)
    theirs = sklearn_metrics.confusion_matrix(targets, logits.argmax(1), labels=range(7))
    matrix = confusion_matrix(p, 7)
    assert matrix is not None
    assert matrix.tolist() == theirs.tolist()
    assert confusion_matrix(p, module.LARGEST_MATRIX + 1) is None
    pairs = list(confusions(p, list("abcdefg")))
    assert sum(row["images"] for row in pairs) == (logits.argmax(1) != targets).sum()
    assert all(theirs["abcdefg".index(r["true"])]["abcdefg".index(r["predicted"])] == r["images"] for r in pairs)
    assert [row["images"] for row in pairs] == sorted((row["images"] for row in pairs), reverse=True)


@pytest.mark.parametrize("multi_label", [False, True])
def test_per_class_agrees_with_sklearn(multi_label: bool) -> None:
    logits, targets = data(multi_label=multi_label)
    truth, guess = (targets, logits > 0) if multi_label else (targets, logits.argmax(1))
    values = sklearn_metrics.precision_recall_fscore_support(truth, guess, zero_division=0.0)
    table = accuracy_per_class(answered(logits, targets), list("abcdefg"))
    for name, column in zip(("precision", "recall", "f1"), values, strict=False):
        assert [row[name] for row in table] == pytest.approx((100 * column).tolist(), abs=0.006)
    assert [row["images"] for row in table] == values[3].tolist()


def test_a_row_an_image() -> None:
    logits, targets = data(classes=3, images=4)
    samples = ImageSet(("a", "b", "c"), targets.tolist(), False, [f"{n}.jpg" for n in range(4)])
    found = list(accuracy_rows(answered(logits, targets), samples))
    assert [row["path"] for row in found] == samples.sources
    for row, own, target in zip(found, logits, targets.tolist(), strict=True):
        assert (row["truth"], row["answer"]) == ("abc"[target], "abc"[int(own.argmax())])
        assert row["score"] == pytest.approx(own.softmax(0).max().item(), abs=1e-5)
        assert row["right"] == (target == own.argmax())


def test_a_row_an_image_of_several_labels() -> None:
    logits, targets = torch.tensor([[2.0, -2, 1], [-1, -1, -1]]), torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    samples = ImageSet(("a", "b", "c"), [(0, 2), (2,)], True, ["0.jpg", "1.jpg"])
    first, second = accuracy_rows(answered(logits, targets), samples)
    assert (first["truth"], first["answer"], first["right"]) == ("a|c", "a|c", True)
    assert first["score"] == "0.880797|0.731059"
    assert (second["truth"], second["answer"], second["right"]) == ("c", "", False)


def batch(images: int, unreadable: list[tuple[int, str]]) -> Batch:
    return Batch(torch.ones(images, 3), torch.zeros(images, dtype=torch.long), torch.arange(images), unreadable)


def test_predict_passes_over_unreadable_images() -> None:
    p = classify_batches(
        torch.nn.Linear(3, 2), [batch(2, [(2, "a.jpg: zero bytes")]), batch(0, [(3, "b.jpg: truncated")])], CPU
    )
    assert p.indices.tolist() == [0, 1]
    assert p.unreadable == [(2, "a.jpg: zero bytes"), (3, "b.jpg: truncated")]


def test_a_set_without_one_readable_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"no image could be read: a\.jpg: zero bytes"):
        accuracy(classify_batches(torch.nn.Linear(3, 2), [batch(0, [(0, "a.jpg: zero bytes")])], CPU))


def test_a_process_without_a_readable_image_adds_nothing() -> None:
    parts = [answered(*data()), classify_batches(torch.nn.Identity(), [batch(0, [(7, "c.jpg: truncated")])], CPU)]
    merged = merge_answers(parts)
    assert accuracy(merged) == accuracy(parts[0])
    assert merged.unreadable == [(7, "c.jpg: truncated")]


WIDE = """
import resource, sys, torch
from convnext.data.loading import Batch
from convnext.tasks.classify.metrics import accuracy, classify_batches
images, classes = int(sys.argv[1]), 21841
base = torch.randn(1, classes)

class Wide(torch.nn.Module):
    def forward(self, pixels):
        return base * pixels[:, :1]  # another row each, at little cost

def batches():
    for first in range(0, images, 64):
        count = min(64, images - first)
        yield Batch(torch.rand(count, 1), torch.randint(classes, (count,)), torch.arange(first, first + count), [])

classify_batches(Wide(), list(batches())[:2], torch.device("cpu"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
accuracy(classify_batches(Wide(), batches(), torch.device("cpu")))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.heavy
def test_imagenet_22k_is_measured_in_little_memory() -> None:
    """20,000 images and 21,841 classes: all logits would take 1.7 GB."""
    # Two threads: with one, the system's memory happened not to grow.
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    said = subprocess.check_output([sys.executable, "-c", WIDE, "20000"], text=True, env=environment)
    assert float(said) < 300  # MB
