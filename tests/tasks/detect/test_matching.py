"""Which objects count as found, by hand."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.tasks.detect import evaluate
from convnext.tasks.detect.matching import matched
from convnext.tasks.detect.metrics import Result


def annotation(label: int, *box: float, crowd: bool = False) -> Annotation:
    return Annotation(label=label, box=box, area=(box[2] - box[0]) * (box[3] - box[1]), crowd=crowd, outline=None)


def rows_of(
    annotations: list[Annotation], results: list[Result], least: Sequence[float] = (0.5, 0.5)
) -> tuple[dict, list[dict]]:
    image = AnnotatedImage(id=7, file=Path("a.png"), width=100, height=100, annotations=tuple(annotations), key="a.png")
    images, objects = matched(DetectionSet(("cat", "dog"), (1, 2), (image,)), results, least)
    return images[0], objects


def found(label: int, score: float, *box: float) -> Result:
    return Result(0, label, score, list(box), None)


def test_an_object_is_matched_once_and_the_best_first() -> None:
    image, objects = rows_of([annotation(0, 0, 0, 10, 10)], [found(0, 0.6, 0, 0, 10, 9), found(0, 0.9, 0, 0, 10, 8)])
    assert image == {"path": "a.png", "objects": 1, "found": 2, "matched": 1, "missed": 0, "false": 1, "cost": 1}
    assert [(row["outcome"], row["score"], row["iou"]) for row in objects] == [
        ("matched", 0.9, 0.8),
        ("false", 0.6, 0.9),
    ]


def test_another_class_and_a_low_score_find_nothing() -> None:
    image, objects = rows_of([annotation(0, 0, 0, 10, 10)], [found(1, 0.9, 0, 0, 10, 10), found(0, 0.4, 0, 0, 10, 10)])
    assert (image["matched"], image["missed"], image["false"]) == (0, 1, 1)
    missed = objects[-1]
    assert (missed["class"], missed["score"], missed["x1"]) == ("cat", "", 10)


def test_each_class_counts_from_a_score_of_its_own() -> None:
    results = [found(0, 0.4, 0, 0, 10, 10), found(1, 0.4, 0, 0, 10, 10)]
    image, objects = rows_of([annotation(0, 0, 0, 10, 10)], results, (0.3, 0.7))
    assert (image["matched"], image["missed"], image["false"]) == (1, 0, 0)
    assert [row["class"] for row in objects] == ["cat"]


def test_tables_count_from_the_scores_of_the_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a calibrated one are each class's own; AP is of all scores."""
    image = AnnotatedImage(id=7, file=Path("a.png"), width=100, height=100, annotations=(), key="a.png")
    part = DetectionSet(("cat", "dog"), (1, 2), (image,))
    results = [found(0, 0.4, 0, 0, 10, 10), found(1, 0.6, 0, 0, 10, 10)]
    monkeypatch.setattr(evaluate, "detect_batches", lambda *given: results)
    for least, classes in (([0.5, 0.5], ["dog"]), ([0.3, 0.7], ["cat"])):
        evaluator: Any = evaluate.DetectionEvaluator()
        answers = evaluator.answer(SimpleNamespace(least=lambda own=least: own), [], part)
        assert len(answers) == 2
        assert [row["class"] for row in evaluator.rows(answers, part)[1].rows] == classes


def test_half_an_overlap_is_enough_and_less_is_not() -> None:
    image, _ = rows_of([annotation(0, 0, 0, 10, 10)], [found(0, 0.9, 0, 0, 10, 5)])
    assert image["matched"] == 1
    image, _ = rows_of([annotation(0, 0, 0, 10, 10)], [found(0, 0.9, 0, 0, 10, 4.9)])
    assert (image["matched"], image["false"]) == (0, 1)


def test_what_lies_in_a_crowd_counts_as_neither() -> None:
    image, objects = rows_of([annotation(0, 0, 0, 50, 50, crowd=True)], [found(0, 0.9, 10, 10, 20, 20)])
    assert (image["objects"], image["found"]) == (0, 0)
    assert objects == []
    image, _ = rows_of([annotation(0, 0, 0, 50, 50, crowd=True)], [found(1, 0.9, 10, 10, 20, 20)])
    assert image["false"] == 1
