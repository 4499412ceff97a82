"""Balance, calibration and curves of a classifier's answers against scikit-learn; and what is stored with weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor
from vacuous import nonempty

from convnext.analysis.costs import Costs
from convnext.data.image_set import ImageSet
from convnext.data.loading import Batch
from convnext.errors import InputError
from convnext.tasks.classify.metrics import (
    Answers,
    Predictions,
    accuracy,
    accuracy_per_class,
    accuracy_rows,
    classify_batches,
    take_answers,
)
from convnext.tasks.classify.quality import (
    calibration_of,
    cost_figures,
    curve_figures,
    decided,
    quality,
)
from convnext.weights.class_names import short_names

CPU = torch.device("cpu")


def data(multi_label: bool = False, images: int = 200, classes: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, classes - 1, (images,), generator=generator)  # the last class has no image
    logits = torch.randn(images, classes, generator=generator)
    if multi_label:
        truth = (torch.rand(images, classes, generator=generator) < 0.3).float()
        return logits + 2 * truth, truth
    logits[torch.arange(images), targets] += 1.5
    return 3 * logits, targets


def answered(logits: Tensor, targets: Tensor, *, size: int = 64, keep: bool = True, **calibration: Any) -> Answers:
    def batches() -> Iterator[Batch]:
        for chosen in torch.arange(len(targets)).split(size):
            yield Batch(logits[chosen], targets[chosen], chosen, [])

    return classify_batches(torch.nn.Identity(), batches(), CPU, keep_logits=keep, **calibration)


def test_figures_agree_with_sklearn() -> None:
    logits, targets = data()
    found, guesses = quality(answered(logits, targets)), logits.argmax(1)
    there = sorted(set(targets.tolist()))
    recalls = sklearn_metrics.recall_score(targets, guesses, labels=there, average="macro")
    assert found["balanced_accuracy"] == pytest.approx(100 * recalls, abs=1e-4)
    assert found["macro_f1"] == pytest.approx(
        100 * sklearn_metrics.f1_score(targets, guesses, average="macro"), abs=1e-4
    )
    one_hot = torch.nn.functional.one_hot(targets, 6)
    assert found["brier"] == pytest.approx(float(((logits.softmax(1) - one_hot) ** 2).sum(1).mean()), abs=1e-5)


def test_several_labels_agree_with_sklearn() -> None:
    logits, targets = data(multi_label=True)
    found, yes = quality(answered(logits, targets)), logits > 0
    assert found["macro_f1"] == pytest.approx(100 * sklearn_metrics.f1_score(targets, yes, average="macro"), abs=1e-4)
    assert found["brier"] == pytest.approx(float(((logits.sigmoid() - targets) ** 2).mean()), abs=1e-5)
    fitted = calibration_of(answered(logits, targets))
    assert fitted is not None
    better = quality(answered(logits, targets, thresholds=fitted["thresholds"]))
    assert better["macro_f1"] == pytest.approx(np.mean(fitted["f1"]), abs=0.01)
    assert better["macro_f1"] > found["macro_f1"]


@pytest.mark.parametrize("size", [7, 200])
def test_tables_of_several_labels_are_of_the_answers_that_are_counted(size: int) -> None:
    logits, targets = data(multi_label=True)
    fitted = calibration_of(answered(logits, targets))
    assert fitted is not None
    predictions = answered(logits, targets, size=size, thresholds=fitted["thresholds"])
    names = tuple("abcdef")
    table = accuracy_per_class(predictions, names)
    assert np.mean([float(row["f1"]) for row in table]) == pytest.approx(quality(predictions)["macro_f1"], abs=0.01)
    samples = ImageSet(names, [()] * len(targets), True, [f"{place}.png" for place in range(len(targets))])
    yes = logits.double().sigmoid().numpy() >= fitted["thresholds"]
    for row, own, true in zip(nonempty(accuracy_rows(predictions, samples)), yes, targets.numpy() > 0, strict=True):
        assert row["answer"] == "|".join(name for name, is_one in zip(names, own, strict=True) if is_one)
        assert row["right"] == (own == true).all()


def test_curves_by_class_agree_with_sklearn() -> None:
    logits, targets = data()
    rows = curve_figures(answered(logits, targets))
    scores = logits.double().softmax(1)
    for k in range(5):
        assert rows[k]["auroc"] == pytest.approx(
            100 * sklearn_metrics.roc_auc_score(targets == k, scores[:, k]), abs=0.01
        )
    assert rows[5] == {"auroc": "", "average_precision": ""}
    assert curve_figures(answered(logits, targets, keep=False)) == []


@pytest.mark.parametrize("size", [1, 7, 200])
@pytest.mark.parametrize("multi_label", [False, True])
def test_figures_do_not_depend_on_batches(size: int, multi_label: bool) -> None:
    logits, targets = data(multi_label)
    whole, parts = answered(logits, targets), answered(logits, targets, size=size)
    assert quality(parts) == quality(whole)
    assert calibration_of(parts) == calibration_of(whole)


def test_a_temperature_is_stored_that_lowers_the_error() -> None:
    logits, targets = data(images=2000)
    fitted = calibration_of(answered(logits, targets))
    assert fitted is not None
    assert fitted["ece_calibrated"] < 0.5 * fitted["ece"]
    calibrated = quality(answered(logits, targets, temperature=fitted["temperature"]))
    assert calibrated["ece"] < 0.5 * fitted["ece"]
    assert calibration_of(answered(logits, targets, keep=False)) is None


def test_images_are_chosen_by_their_place_and_may_come_again() -> None:
    logits, targets = data()
    answers = answered(logits, targets)
    places = [5, 3, 3, 199]
    own = take_answers(answers, places)
    assert isinstance(own, Predictions)
    assert own.targets.tolist() == targets[places].tolist()
    assert own.guesses.tolist() == logits.argmax(1)[places].tolist()
    assert own.indices.tolist() == [0, 1, 2, 3]
    answers.indices[:] = torch.arange(200) + 1  # the first could not be read
    assert take_answers(answers, [0, 1, 200]).indices.tolist() == [1, 2]


def test_costs_of_decisions() -> None:
    logits, targets = data()
    answers = answered(logits, targets)
    assert isinstance(answers, Predictions)
    names = [f"c{k}" for k in range(6)]
    costs = Costs([*names, "ask"], np.hstack([1 - np.eye(6), np.full((6, 1), 0.4)]))
    answers = decided(answers, costs)
    assert answers.decisions is not None
    chosen = answers.decisions
    scores = logits.double().softmax(1)
    assert (chosen == 6).tolist() == (scores.amax(1) < 0.6).tolist()
    figures = cost_figures(answers, costs, names)
    by_hand = costs.matrix[targets.numpy(), chosen.numpy()]
    assert figures["cost_of_decisions"] == pytest.approx(by_hand.mean(), abs=1e-6)
    few = take_answers(answers, [5, 3])
    assert isinstance(few, Predictions)
    assert cost_figures(few, costs, names)["cost_of_decisions"] == pytest.approx(by_hand[[5, 3]].mean(), abs=1e-6)
    assert figures["cost_of_answers"] == pytest.approx(float((logits.argmax(1) != targets).double().mean()), abs=1e-6)
    with pytest.raises(InputError, match="too many to keep"):
        decided(answered(logits, targets, keep=False), costs)  # type: ignore[arg-type]  # which it must refuse


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_not_a_number_is_never_right(multi_label: bool) -> None:
    """Of a class of its own, the first stands for it: balanced accuracy was 50 for two such classes."""
    logits, targets = data(multi_label)
    answers = answered(torch.full_like(logits, math.nan), targets)
    assert curve_figures(answers) == []
    if isinstance(answers, Predictions):
        assert accuracy(answers)["top1"] == 0
        assert quality(answers)["balanced_accuracy"] == 0
        assert quality(answers)["macro_f1"] == 0
        assert {row["recall"] for row in accuracy_per_class(answers, list("abcdef"))} == {0}
    else:
        chance = targets.float().mean(0)
        assert accuracy(answers)["mAP"] == pytest.approx(100 * float(chance[chance > 0].mean()), abs=1e-3)


def test_charts_say_what_ids_stand_for() -> None:
    assert short_names(["n01440764", "n02102040"]) == ["tench", "English springer"]
    cranes = ["n02012849", "n03126707"]  # the bird and the machine
    assert short_names(cranes) == ["crane n02012849", "crane n03126707"]
    assert short_names(["a, b", "c"]) == ["a, b", "c"]
