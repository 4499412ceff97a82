"""Wrong objects, by hand."""

from pathlib import Path

import numpy as np
import pytest

from convnext.data.rle import from_mask
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.tasks.detect.metrics import Result
from convnext.tasks.detect.wrong_objects import WrongObject, find_wrong_objects

CAT, DOG = 0, 1
BOX = (10.0, 10.0, 30.0, 30.0)


def annotation(label: int, *box: float, crowd: bool = False, outline: object = None) -> Annotation:
    return Annotation(label=label, box=box, area=(box[2] - box[0]) * (box[3] - box[1]), crowd=crowd, outline=outline)


def found(label: int, score: float, *box: float, mask: object = None, image: int = 0) -> Result:
    return Result(image, label, score, list(box), mask)


def faults(annotations: list[Annotation], results: list[Result]) -> list[WrongObject]:
    image = AnnotatedImage(id=7, file=Path("a.png"), width=100, height=100, annotations=tuple(annotations), key="a.png")
    return find_wrong_objects(DetectionSet(("cat", "dog"), (1, 2), (image,)), results)


def named(annotations: list[Annotation], results: list[Result]) -> list[tuple[str, int | None, int | None]]:
    return [(f.fault, f.label, f.suggested) for f in faults(annotations, results)]


def test_what_is_answered_as_annotated_is_no_fault() -> None:
    assert faults([annotation(CAT, *BOX)], [found(CAT, 0.9, *BOX), found(DOG, 0.2, *BOX)]) == []


def test_an_object_answered_as_another_class() -> None:
    (fault,) = faults([annotation(CAT, *BOX)], [found(DOG, 0.8, *BOX), found(CAT, 0.1, *BOX)])
    assert fault == WrongObject(0, "class", CAT, DOG, BOX, BOX, pytest.approx(0.8 * 0.9))


def test_an_answer_without_an_object_is_a_missing_one_by_its_score() -> None:
    results = [found(DOG, 0.7, 60, 60, 90, 90), found(CAT, 0.9, *BOX)]
    (fault,) = faults([annotation(CAT, *BOX)], results)
    assert (fault.fault, fault.label, fault.suggested, fault.box) == ("missing", None, DOG, (60, 60, 90, 90))
    assert fault.score == pytest.approx(0.7)


def test_an_object_without_an_answer_is_spurious_by_how_many_of_its_class_are_found() -> None:
    others = [annotation(CAT, *BOX), annotation(CAT, 60, 60, 90, 90)]
    results = [found(CAT, 0.9, *BOX), found(CAT, 0.6, 60, 60, 90, 90)]
    (fault,) = faults([*others, annotation(CAT, 0, 80, 20, 100)], results)
    assert (fault.fault, fault.box) == ("spurious", (0, 80, 20, 100))
    assert fault.score == pytest.approx((0.9 + 0.6 + 0) / 3)
    (fault,) = faults([annotation(DOG, 0, 80, 20, 100)], [])
    assert fault.score == 0  # of a class the detector never finds, it says nothing


def test_a_box_beside_its_answer_is_moved_and_counts_once() -> None:
    (fault,) = faults([annotation(CAT, *BOX)], [found(CAT, 0.9, 22, 10, 42, 30)])
    assert (fault.fault, fault.label, fault.suggested, fault.answer) == ("moved", CAT, CAT, (22, 10, 42, 30))
    assert fault.score == pytest.approx(0.9 * (1 - 160 / 640))
    assert {kind for kind, *_ in named([annotation(CAT, *BOX)], [found(CAT, 0.9, 29, 10, 49, 30)])} == {
        "missing",
        "spurious",
    }


def test_the_second_of_two_objects_in_one_place_is_spurious() -> None:
    others = [annotation(CAT, 60, 60, 90, 90)]
    results = [found(CAT, 0.9, *BOX), found(CAT, 0.9, 60, 60, 90, 90)]
    assert named([annotation(CAT, *BOX), annotation(CAT, *BOX), *others], results) == [("spurious", CAT, None)]
    assert named([annotation(DOG, *BOX), annotation(CAT, *BOX)], [found(CAT, 0.9, *BOX)]) == [("spurious", DOG, None)]


def test_an_outline_of_something_else_than_the_box() -> None:
    here, there = np.zeros((2, 100, 100), dtype=np.uint8)
    here[10:30, 10:30] = 1
    there[60:80, 60:80] = 1
    own, other = from_mask(here), from_mask(there)
    assert faults([annotation(CAT, *BOX, outline=own)], [found(CAT, 0.9, *BOX, mask=own)]) == []
    (fault,) = faults([annotation(CAT, *BOX, outline=other)], [found(CAT, 0.9, *BOX, mask=own)])
    assert (fault.fault, fault.score) == ("outline", pytest.approx(0.9))


def test_crowds_and_answers_in_them_say_nothing() -> None:
    assert faults([annotation(CAT, 0, 0, 50, 50, crowd=True)], [found(DOG, 0.9, *BOX)]) == []


def test_the_worst_of_all_images_comes_first() -> None:
    images = tuple(
        AnnotatedImage(id=n, file=Path(f"{n}.png"), width=100, height=100, annotations=(), key=f"{n}.png")
        for n in range(3)
    )
    results = [found(CAT, score, *BOX, image=n) for n, score in enumerate((0.3, 0.9, 0.6))]
    wrong = find_wrong_objects(DetectionSet(("cat", "dog"), (1, 2), images), results)
    assert [(f.image, f.score) for f in wrong] == [(1, 0.9), (2, 0.6), (0, 0.3)]
