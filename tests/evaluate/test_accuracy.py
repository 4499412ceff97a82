"""Metrics against scikit-learn and by hand."""

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from convnext.data.loader import Batch
from convnext.errors import InputError
from convnext.evaluate.accuracy import Predictions, accuracy, confusion_matrix, merge, per_class, predict


def predictions(classes: int = 7, images: int = 200, multi_label: bool = False) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, generator=generator)
    if multi_label:
        targets = (torch.rand(images, classes, generator=generator) < 0.3).float()
    else:
        targets = torch.randint(0, classes, (images,), generator=generator)
    return Predictions(logits, targets, torch.arange(images), [])


def test_accuracy_agrees_with_sklearn():
    p = predictions()
    ours = accuracy(p)
    scores, truth = p.logits.softmax(1).numpy(), p.targets.numpy()
    assert ours["top1"] == pytest.approx(100 * sklearn_metrics.accuracy_score(truth, scores.argmax(1)), abs=1e-4)
    assert ours["top5"] == pytest.approx(100 * sklearn_metrics.top_k_accuracy_score(truth, scores, k=5), abs=1e-4)
    assert ours["val_loss"] == pytest.approx(sklearn_metrics.log_loss(truth, scores), abs=1e-5)


def test_top5_needs_more_than_five_classes():
    assert "top5" not in accuracy(predictions(classes=5))


def test_multi_label_is_mean_average_precision():
    p = predictions(multi_label=True)
    aps = [sklearn_metrics.average_precision_score(p.targets[:, k], p.logits[:, k]) for k in range(7)]
    assert accuracy(p)["mAP"] == pytest.approx(100 * sum(aps) / 7, abs=1e-4)


def test_multi_label_leaves_out_classes_without_a_positive():
    p = predictions(multi_label=True)
    p.targets[:, 0] = 0
    aps = [sklearn_metrics.average_precision_score(p.targets[:, k], p.logits[:, k]) for k in range(1, 7)]
    assert accuracy(p)["mAP"] == pytest.approx(100 * sum(aps) / 6, abs=1e-4)


def test_confusion_matrix_agrees_with_sklearn():
    p = predictions()
    theirs = sklearn_metrics.confusion_matrix(p.targets, p.logits.argmax(1), labels=range(7))
    assert confusion_matrix(p, 7).tolist() == theirs.tolist()


def test_per_class_counts_images_and_recall():
    targets = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[2.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 2, 0]])
    table = per_class(Predictions(logits, targets, torch.arange(4), []), ["a", "b", "c"])
    assert [row["images"] for row in table] == [3, 1, 0]
    assert [row["recall"] for row in table] == [66.67, 100.0, 0.0]
    assert [row["precision"] for row in table] == [100.0, 50.0, 0.0]


def batch(images: int, unreadable: list[tuple[int, str]]) -> Batch:
    return Batch(torch.ones(images, 3), torch.zeros(images, dtype=torch.long), torch.arange(images), unreadable)


def test_predict_passes_over_unreadable_images():
    model = torch.nn.Linear(3, 2)
    p = predict(model, [batch(2, [(2, "a.jpg: zero bytes")]), batch(0, [(3, "b.jpg: truncated")])], torch.device("cpu"))
    assert p.logits.shape == (2, 2)
    assert p.unreadable == [(2, "a.jpg: zero bytes"), (3, "b.jpg: truncated")]


def test_a_set_without_one_readable_image_is_refused():
    with pytest.raises(InputError, match=r"no image could be read: a\.jpg: zero bytes"):
        accuracy(predict(torch.nn.Linear(3, 2), [batch(0, [(0, "a.jpg: zero bytes")])], torch.device("cpu")))


def test_predictions_of_several_processes_are_put_in_order():
    parts = [
        Predictions(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 3]), torch.tensor([1, 3]), []),
        Predictions(torch.empty(0, 0), torch.empty(0), torch.empty(0), [(4, "e")]),
        Predictions(torch.tensor([[0.0]]), torch.tensor([0]), torch.tensor([0]), [(2, "c")]),
    ]
    merged = merge(parts)
    assert merged.logits.flatten().tolist() == [0, 1, 3]
    assert merged.targets.tolist() == merged.indices.tolist() == [0, 1, 3]
    assert merged.unreadable == [(2, "c"), (4, "e")]
