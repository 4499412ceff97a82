"""Wrong objects of a detection set, by the answers of a detector: missing, spurious, moved and misclassified ones, and
outlines of another object.

After ObjectLab (Tkachenko, Thyagarajan and Mueller 2023, arXiv 2309.00832), which scores images; here each object has a
score, so that they can be shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from faster_coco_eval.core import mask as codes
from torchvision.ops import box_iou

from convnext.data.rle import to_code
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.tasks.detect.matching import IOU, inside
from convnext.tasks.detect.metrics import Result

NEAR = 0.1
"""The overlap of boxes from which an answer that fits no object may be a moved object's true place."""


class WrongObject(NamedTuple):
    """An object whose annotation may be wrong.

    Args:
        image: its image's place in the set.
        fault: "missing", "spurious", "moved", "class" or "outline".
        label: position of the class that is annotated; None for a missing object.
        suggested: position of the class that is answered; None for a spurious one.
        box: x0, y0, x1, y1 of the annotation; of a missing object of the answer.
        answer: box of the answer, where one says what is right.
        score: how sure it is, from 0 to 1.
    """

    image: int
    fault: str
    label: int | None
    suggested: int | None
    box: tuple[float, ...]
    answer: tuple[float, ...] | None
    score: float


def find_wrong_objects(data: DetectionSet, results: Sequence[Result]) -> list[WrongObject]:
    """Objects that a detector's answers, of any score, speak against; worst first.

    An answer belongs to the object that it overlaps most, if by `IOU` or more. An object with answers of its own class
    below those of another is misclassified; one without answers is moved, if an answer of its class that belongs to
    none lies near, and else spurious, by the share of its class that the detector finds at all. Answers left over are
    missing objects. Crowds, and answers in them, are left out.
    """
    found: dict[int, list[Result]] = defaultdict(list)
    for row in results:
        found[row.image].append(row)
    looks = [_Look(place, image, found[place]) for place, image in enumerate(data.images)]
    recall = _recall(looks, len(data.classes))
    return sorted((fault for look in looks for fault in look.faults(recall)), key=lambda fault: -fault.score)


def _recall(looks: Sequence[_Look], classes: int) -> np.ndarray:
    """Mean of the best score of the right class over the objects of each class, `[K]`; 0 for a class of none."""
    sums, counts = np.zeros(classes), np.zeros(classes)
    for look in looks:
        for place, annotation in enumerate(look.truth):
            sums[annotation.label] += look.best_score(place)
            counts[annotation.label] += 1
    return sums / np.maximum(counts, 1)


class _Look:
    """One image: its objects, and the answers that belong to each."""

    def __init__(self, place: int, image: AnnotatedImage, results: Sequence[Result]) -> None:
        crowds = [a for a in image.annotations if a.crowd]
        self.place, self.image = place, image
        self.truth = [a for a in image.annotations if not a.crowd]
        self.answers = [r for r in results if not any(inside(r.box, a.box) for a in crowds)]
        boxes = torch.tensor([r.box for r in self.answers]).reshape(-1, 4)
        self.iou = box_iou(boxes, torch.tensor([a.box for a in self.truth]).reshape(-1, 4)).numpy()
        self.of_truth: dict[int, list[int]] = defaultdict(list)
        self.left: list[int] = []
        for answer, row in enumerate(self.iou):
            # Of two objects in one place, the one of the answer's class.
            same = [a.label == self.answers[answer].label for a in self.truth]
            best = max(range(len(row)), key=lambda i: (round(float(row[i]), 2), same[i]), default=None)
            if best is not None and row[best] >= IOU:
                self.of_truth[best].append(answer)
            else:
                self.left.append(answer)

    def best(self, answers: Sequence[int], label: int, *, other: bool = False) -> int | None:
        """The answer of the highest score with a class, or with any `other`."""
        chosen = [i for i in answers if (self.answers[i].label == label) != other]
        return max(chosen, key=lambda i: self.answers[i].score, default=None)

    def score(self, answer: int | None) -> float:
        return 0.0 if answer is None else self.answers[answer].score

    def best_score(self, place: int) -> float:
        """The highest score of the right class that belongs to an object."""
        return self.score(self.best(self.of_truth[place], self.truth[place].label))

    def faults(self, recall: np.ndarray) -> Iterator[WrongObject]:
        """All that the answers speak against, in any order."""
        left = list(self.left)
        for place, annotation in enumerate(self.truth):
            own, label = self.of_truth[place], annotation.label
            same, other = self.best(own, label), self.best(own, label, other=True)
            if other is not None and self.score(other) > self.score(same):
                yield self.fault("class", annotation, other, self.score(other) * (1 - self.score(same)))
            elif same is not None:
                if (overlap := self.mask_iou(annotation, self.answers[same])) is not None and overlap < IOU:
                    yield self.fault("outline", annotation, same, self.score(same) * (1 - overlap))
            elif (near := self.best([i for i in left if self.iou[i, place] >= NEAR], label)) is not None:
                left.remove(near)
                yield self.fault("moved", annotation, near, self.score(near) * (1 - float(self.iou[near, place])))
            else:
                seen = max((self.answers[i].score * self.iou[i, place] for i in self.left), default=0.0)
                yield self.fault("spurious", annotation, None, float(recall[label] * (1 - seen)))
        for i in left:
            covered = float(self.iou[i].max(initial=0))
            yield self.fault("missing", None, i, self.score(i) * (1 - covered))

    def fault(self, kind: str, annotation: Annotation | None, answer: int | None, score: float) -> WrongObject:
        result = None if answer is None else self.answers[answer]
        box = annotation.box if annotation is not None else self.answers[answer or 0].box
        return WrongObject(
            self.place,
            kind,
            None if annotation is None else annotation.label,
            None if result is None else result.label,
            tuple(box),
            None if result is None else tuple(result.box),
            score,
        )

    def mask_iou(self, annotation: Annotation, result: Result) -> float | None:
        """Overlap of an object's outline and an answer's mask; None where there is one alone."""
        if annotation.outline is None or result.mask is None:
            return None
        outline = to_code(annotation.outline, self.image.width, self.image.height)
        return float(codes.iou([result.mask], [outline], [0])[0, 0])
