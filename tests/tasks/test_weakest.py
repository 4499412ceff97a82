"""What is said to be reached and weakest, by hand on small answers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from vacuous import nonempty

from convnext.data.loading import Batch
from convnext.data.rle import from_mask
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.printing import LONGEST_NAME, counted, quoted, share
from convnext.tasks.classify.ending import accuracy_in_words, weakest_class
from convnext.tasks.classify.metrics import Answers, classify_batches
from convnext.tasks.depth.ending import errors_in_words, ranges_of, weakest_distance
from convnext.tasks.depth.metrics import MeasuredDepths, errors_by_depth, merge_measured_depths
from convnext.tasks.detect.ending import precision_in_words, weakest_objects
from convnext.tasks.detect.metrics import Result, coco_eval
from convnext.tasks.pretrain.fcmae.ending import loss_in_words, weakest_block
from convnext.tasks.segment.ending import overlap_in_words, weakest_area
from convnext.tasks.weakest import unmeasured, well_measured

# Names and numbers


def test_names_within_a_sentence_are_one_printable_line() -> None:
    assert quoted("tench") == "'tench'"
    assert quoted("it's a\n\x1b[2J  fish") == "'it's a \\x1b[2J fish'"
    assert quoted(os.fsdecode(b"caf\xe9")) == "'caf\\udce9'"
    assert len(quoted("x" * 500)) == LONGEST_NAME + 2
    assert (counted(1, "image"), counted(2000, "image")) == ("1 image", "2,000 images")
    assert (share(2, 3), share(37, 50), share(0.0), share(123.4)) == ("66.7 %", "74 %", "0 %", "12,340 %")


def test_rare_classes_are_not_well_measured() -> None:
    assert well_measured([50, 10, 9, 0]) == [0, 1]
    assert well_measured([4, 2, 1, 0]) == [0, 1]  # of a small set, half as many as the largest has
    assert well_measured([1, 0]) == [0]
    assert well_measured([]) == []
    assert unmeasured(0, 3) == ""


# Classification


def answered(pairs: list[tuple[int, int, int]], classes: int = 3) -> Answers:
    """Of rows of true class, answer, and how many images."""
    targets = torch.tensor([true for true, _, count in pairs for _ in range(count)])
    guesses = torch.tensor([guess for _, guess, count in pairs for _ in range(count)])
    return of_logits(torch.nn.functional.one_hot(guesses, classes).float(), targets)


def of_logits(logits: Tensor, targets: Tensor) -> Answers:
    batch = Batch(logits, targets, torch.arange(len(targets)), [])
    return classify_batches(torch.nn.Identity(), [batch], torch.device("cpu"))


NAMES = ["tench", "church", "horn"]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            [(0, 0, 37), (0, 1, 6), (0, 2, 4), (0, 0, 3), (1, 1, 50)],
            "40 of 50 'tench' images right (80 %); most often taken for 'church': 6; not measured: 1 of 3 classes",
        ),
        (
            # A class of few images is passed over, and of two that are as weak, the one of more images is said.
            [(0, 0, 10), (0, 1, 10), (1, 1, 20), (1, 2, 20), (2, 1, 2)],
            "20 of 40 'church' images right (50 %); most often taken for 'horn': 20",
        ),
        (
            [(0, 0, 5), (0, 1, 4), (1, 1, 100), (1, 2, 30)],
            "100 of 130 'church' images right (76.9 %); most often taken for 'horn': 30; not measured: 1 of 3 classes",
        ),
        (
            # The most frequent mistake may be another class's.
            [(0, 1, 6), (0, 2, 6), (1, 1, 100), (1, 2, 30), (2, 2, 20)],
            "0 of 12 'tench' images right (0 %); most often taken for 'church': 6; "
            "the most frequent mistake is 'church' taken for 'horn': 30",
        ),
        ([(0, 0, 5), (1, 1, 5), (2, 2, 1)], "nothing: 11 of 11 validation images are right"),
        ([(0, 0, 5)], "nothing: 5 of 5 validation images are right; not measured: 2 of 3 classes"),
        # The only mistake is of a rare class.
        (
            [(0, 0, 50), (1, 1, 50), (2, 2, 1), (2, 0, 1)],
            "1 of 2 'horn' images right (50 %); most often taken for 'tench': 1",
        ),
        (
            [(2, 0, 1)],
            "0 of 1 'horn' images right (0 %); most often taken for 'tench': 1; not measured: 2 of 3 classes",
        ),
    ],
)
def test_the_weakest_class(pairs: list[tuple[int, int, int]], said: str) -> None:
    assert weakest_class(answered(pairs), NAMES) == said


def test_one_class_cannot_be_confused() -> None:
    assert weakest_class(answered([(0, 0, 3)], classes=1), ["cat"]) == "nothing to compare: there is one class"


def test_names_of_strangers_are_said_on_one_line() -> None:
    found = weakest_class(answered([(0, 1, 3)], classes=2), ["a 'b'\n\x1b]0;pwn\x07", "c\td"])
    assert found == (
        "0 of 3 'a 'b' \\x1b]0;pwn\\x07' images right (0 %); most often taken for 'c d': 3; "
        "not measured: 1 of 2 classes"
    )


def test_the_weakest_of_several_labels() -> None:
    targets = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]).float()
    logits = torch.tensor([[3.0, 1, 0], [2, 4, 0], [1, 3, 0], [0, 0, 0]])
    # 'church' is found second and third: (1 / 2 + 2 / 3) / 2
    said = "'church' has the lowest average precision, 58.3 %; 2 of 4 validation images show it"
    assert weakest_class(of_logits(logits, targets), NAMES) == f"{said}; not measured: 1 of 3 classes"
    assert weakest_class(of_logits(logits[:, :2], targets[:, :2]), NAMES[:2]) == said
    right = weakest_class(of_logits(targets, targets), NAMES)
    assert right.startswith("nothing: for every class, the images that show it have the highest scores; not measured")
    assert weakest_class(of_logits(logits, 0 * targets), NAMES) == "not known: no validation image has a label"


def test_accuracy_in_words() -> None:
    assert (
        accuracy_in_words({"top1": 89.9, "val_loss": 1.0}, 3925)
        == "89.90 % of 3,925 validation images are right (top1)"
    )
    assert accuracy_in_words({"top1": 100.0, "top5": 100.0}, 1) == (
        "100.00 % of 1 validation image are right (top1), "
        "for 100.00 % the right class is among the five likeliest (top5)"
    )
    assert accuracy_in_words({"mAP": 50.0}, 4).startswith("50.00 % mean average precision (mAP) on 4 validation images")
    assert accuracy_in_words({"val_loss": 1.0}, 4) == "nothing was measured: no validation image has a label"


# Detection


def detection_set(*boxes: tuple[int, float], classes: int = 2) -> DetectionSet:
    """Of rows of class and side, a square in an image of its own each."""
    images = [
        AnnotatedImage(
            i, Path(f"{i}.png"), f"{i}.png", 200, 200, (Annotation(label, (0, 0, side, side), None, False, side**2),)
        )
        for i, (label, side) in enumerate(boxes)
    ]
    return DetectionSet(("ring", "it's")[:classes], (1, 2)[:classes], tuple(images))


def found(data: DetectionSet, places: list[int], label: int | None = None) -> list[Result]:
    """The true boxes of some of the images, as another class if one is given."""
    rows = [(place, data.images[place].annotations[0]) for place in places]
    return [Result(place, a.label if label is None else label, 0.9, list(a.box), None) for place, a in rows]


def weakest_box(data: DetectionSet, results: list[Result]) -> str:
    return weakest_objects({"box": coco_eval(data, results, "bbox")}, data)


def test_the_weakest_objects() -> None:
    data = detection_set((0, 20), (0, 50), (1, 20), (1, 50))
    said = weakest_box(data, found(data, [0, 1, 3]))
    # Of two objects, one found: precision 1 up to half the recall, at 51 of 101 places.
    assert said == (
        "'it's' has the lowest average precision, box_AP 50.5 % on 2 objects; "
        "of the sizes, small objects (under 32² pixels) have the lowest, box_AP 50 %"
    )
    assert weakest_box(data, found(data, [0, 1, 2, 3])) == (
        "nothing: box_AP 100 % of every class; no size is weaker than another"
    )
    assert weakest_box(data, []) == "everything: nothing was found in 4 validation images"
    none = weakest_box(data, found(data, [0, 1], label=1))
    assert none == "no class is weaker than another: box_AP 0 % of each; no size is weaker than another"


def test_a_class_of_few_objects_is_not_called_the_weakest() -> None:
    data = detection_set(*[(0, 50)] * 12, (1, 50))
    assert "'ring' has the lowest average precision, box_AP 75.2 % on 12 objects" in weakest_box(
        data, found(data, list(range(9)))
    )
    assert "'it's' has the lowest average precision, box_AP 0 % on 1 object;" in weakest_box(
        data, found(data, list(range(12)))
    )


def test_objects_of_one_class_or_size_and_none() -> None:
    one = detection_set((0, 50), (0, 50), classes=1)
    assert weakest_box(one, found(one, [0])) == (
        "'ring' is the only class: box_AP 50.5 %; all are medium objects (32² to 96² pixels)"
    )
    lonely = detection_set((0, 150))
    assert weakest_box(lonely, found(lonely, [0])) == (
        "'ring' is the only class with validation objects: box_AP 100 %; all are large objects (from 96² pixels); "
        "not measured: 1 of 2 classes"
    )
    empty = detection_set()
    assert weakest_box(empty, []) == "not known: val has no objects"
    assert precision_in_words({"objects": 0}, 3) == "val has no objects: nothing was measured"


def test_masks_count_before_boxes() -> None:
    data = detection_set((0, 50), (1, 50))
    square = np.zeros((200, 200), dtype=np.uint8)
    square[:50, :50] = 1
    outline = [[0, 0, 50, 0, 50, 50, 0, 50]]
    data = DetectionSet(
        data.classes,
        data.category_ids,
        tuple(
            AnnotatedImage(
                i.id,
                i.file,
                i.key,
                200,
                200,
                tuple(Annotation(a.label, a.box, outline, False, a.area) for a in i.annotations),
            )
            for i in data.images
        ),
    )
    shapes = [torch.from_numpy(square).bool(), torch.from_numpy(square.T[::-1].copy()).bool()]
    results = [row._replace(mask=from_mask(shape)) for row, shape in zip(found(data, [0, 1]), shapes, strict=True)]
    kinds = {name: coco_eval(data, results, kind) for name, kind in (("mask", "segm"), ("box", "bbox"))}
    assert weakest_objects(kinds, data).startswith("'it's' has the lowest average precision, mask_AP 0 % on 1 object;")
    said = precision_in_words({"mask_AP": 34.1, "mask_AP50": 56.2, "box_AP": 36.0, "box_AP50": 58.0}, 5000)
    assert said == (
        "average precision 34.10 % (mask_AP), 36.00 % (box_AP) on 5,000 validation images; "
        "56.20 % (mask_AP50), 58.00 % (box_AP50) where an overlap of half counts as found"
    )


# Segmentation


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (
            [[90, 10, 0], [20, 30, 0], [0, 0, 50]],  # 30 / (50 + 40 - 30)
            "'church' has the lowest overlap, IoU 50 %; 40 % of its pixels are taken for 'tench'",
        ),
        (
            # All of its own are found; what is wrong are others' pixels.
            [[40, 60, 0], [0, 10, 0], [0, 0, 50]],
            "'church' has the lowest overlap, IoU 14.3 %; 60 % of 'tench' is taken for it",
        ),
        (
            [[9, 0, 1], [0, 0, 0], [0, 0, 0]],  # a class that is not there is not the weakest, even if it is answered
            "'tench' has the lowest overlap, IoU 90 %; 10 % of its pixels are taken for 'horn'; "
            "not measured: 2 of 3 classes",
        ),
        ([[9, 0, 0], [0, 9, 0], [0, 0, 9]], "nothing: every pixel is right"),
        ([[0, 0, 0]] * 3, "not known: no pixel of the validation images has a class"),
    ],
)
def test_the_weakest_area(matrix: list[list[int]], said: str) -> None:
    assert weakest_area(np.array(matrix), NAMES) == said


def test_one_class_of_pixels_and_overlap_in_words() -> None:
    assert weakest_area(np.array([[5]]), ["cell"]) == "nothing to compare: there is one class"
    metrics = {"mIoU": 61.3, "mean_accuracy": 70.0, "pixel_accuracy": 87.52}
    assert overlap_in_words(metrics, 1) == (
        "61.30 % mean overlap of true and found areas (mIoU) on 1 validation image, "
        "87.52 % of their pixels right (pixel_accuracy)"
    )
    assert overlap_in_words(metrics, 0).startswith("nothing was measured: no pixel")


# Depth


def depths(*parts: tuple[float, float, int]) -> MeasuredDepths:
    """Of rows of true depth, depth found, and how many pixels."""
    truth = np.concatenate([[0.0], *([true] * count for true, _, count in parts)]).astype(np.float32)
    answer = np.concatenate([[9.0], *([own] * count for _, own, count in parts)]).astype(np.float32)
    return MeasuredDepths([(0, len(truth) - 1, {})], errors_by_depth(truth, answer))


def test_the_weakest_distance() -> None:
    measured = depths((1, 1.1, 50), (1, 0.9, 50), (4, 6, 100), (16, 15.2, 100))
    near, middle, far = ranges_of(measured)
    assert near == pytest.approx((1, 2 ** (1 / 16), 0.1))
    assert middle == pytest.approx((4, 4 * 2 ** (1 / 16), 0.5))
    assert far == pytest.approx((16, 16 * 2 ** (1 / 16), 0.05))
    assert weakest_distance(measured) == (
        "where the truth is 4 to 4.2, depths are off by 50 % on average; 1 to 1: 10 %; 16 to 17: 5 %"
    )
    assert weakest_distance(depths((2, 3, 10))) == (
        "where the truth is 2 to 2.1, depths are off by 50 % on average; there are no other distances"
    )
    assert weakest_distance(depths((1, 1, 5), (9, 9, 5))) == "nothing: every depth is right"
    assert weakest_distance(MeasuredDepths([], {})) == "not known: no depth of the validation images is known"


def test_ranges_have_about_as_many_pixels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 80, 30_000).astype(np.float32)
    measured = MeasuredDepths([], errors_by_depth(truth, 1.1 * truth))
    ranges = ranges_of(measured)
    for near, far, error in nonempty(ranges):
        assert ((truth >= near) & (truth < far)).mean() == pytest.approx(1 / 3, abs=0.06)
        assert error == pytest.approx(0.1, abs=1e-6)
    assert [far for _, far, _ in ranges[:-1]] == [near for near, _, _ in ranges[1:]]


def test_what_processes_measured_is_added_up() -> None:
    one, other = depths((1, 2, 3), (5, 5, 1)), depths((1, 1, 1), (0.001, 0.002, 2))
    merged = merge_measured_depths([one, other])
    assert merged.errors == merge_measured_depths([other, one]).errors
    assert merged.errors[0] == (4, 3.0)
    assert sum(pixels for pixels, _ in merged.errors.values()) == 7


def test_errors_in_words() -> None:
    assert errors_in_words({"abs_rel": 0.1213, "delta1": 87.5}, 3) == (
        "depths are off by 12.1 % on average (abs_rel), 87.50 % of pixels by less than a factor of 1.25 (delta1), "
        "on 3 validation images"
    )
    assert errors_in_words({"abs_rel": 0.0, "delta1": 0.0}, 0).startswith("nothing was measured: no depth")


# Pre-training


def test_the_weakest_block() -> None:
    distances = [0.4, 0.3, 0.2, 0.4]
    assert weakest_block(distances, (1, 1, 1, 1)) == (
        "no block has collapsed; block 3 of 4, in stage 3, is the nearest to it: its channels differ by 0.2 "
        "(feature_distance; collapsed under 0.05)"
    )
    assert weakest_block([0.4, 0.01, 0.3, 0.3, None], (2, 1, 1, 1)) == (
        "block 2 of 5 no longer varies over the image and adds nothing: channels differ by 0.01 "
        "(feature_distance; collapsed under 0.05) at least"
    )
    assert weakest_block([0.4, 4e-5, 0.3, 2e-4, 0.01], (2, 1, 1, 1)) == (
        "blocks 2, 4 and 5 of 5 no longer vary over the image and add nothing: channels differ by 4e-05 "
        "(feature_distance; collapsed under 0.05) at least"
    )
    assert weakest_block([None, None], (1, 1)) == "not known: no block's features are finite"
    assert loss_in_words({"loss": 0.5}, 36, 0) == (
        "mean squared error 0.5000 on hidden patches of 36 training images (loss)"
    )
    assert "12.50 % of 8 validation images are right with nearest neighbours (knn), 50.00 % with" in loss_in_words(
        {"loss": 0.5, "knn": 12.5, "linear_probe": 50.0}, 36, 8
    )
