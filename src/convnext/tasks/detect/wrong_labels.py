"""Objects of detection data whose annotations may be wrong, by a detector's answers, as problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convnext.data.check.problem import Problem
from convnext.data.exclude import read_exclude
from convnext.data.parts import left_parts
from convnext.data.sources.annotated import DetectionSet
from convnext.data.sources.detection import read_annotated
from convnext.errors import InputError
from convnext.inference.detector import Detector
from convnext.printing import progress
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.data import DetectionBatch, detection_eval_loader
from convnext.tasks.detect.evaluate import DETECT_EVAL_BATCH
from convnext.tasks.detect.metrics import Result, detect_batches
from convnext.tasks.detect.wrong_objects import WrongObject, find_wrong_objects
from convnext.tasks.load import load

LEAST_OBJECT_SCORE = 0.2
"""Least score of what is shown: below, it is more often the detector that is wrong."""


def problems_of_objects(config: DetectConfig, source: str) -> list[Problem]:
    """Objects of all parts that the detector at `source` speaks against, worst first."""
    detector = load(source, device=config.device, backend="torch")
    if not isinstance(detector, Detector):
        raise InputError(f"{source} is no detector; wrong objects are found by one, best trained on these data")
    read = read_annotated(config.data, classes=detector.classes, form=config.format)
    parts = left_parts(config.data, read.parts, read_exclude(config.exclude))
    found = [
        (part, data, fault)
        for part, data in parts.items()
        for fault in find_wrong_objects(data, answers_of_part(detector, data, part or "images", config.workers))
        if fault.score >= LEAST_OBJECT_SCORE
    ]
    return [
        problem_of_object(part, data, fault) for part, data, fault in sorted(found, key=lambda each: -each[2].score)
    ]


def answers_of_part(detector: Detector, data: DetectionSet, name: str, workers: int) -> list[Result]:
    """Answers about all images of a part, of any score, under a bar."""
    loader = detection_eval_loader(data, detector.transform, batch_size=DETECT_EVAL_BATCH, workers=workers)
    with progress(name, len(data)) as advance:

        def counted(batches: Iterable[DetectionBatch]) -> Iterable[DetectionBatch]:
            for batch in batches:
                yield batch
                advance(len(batch.indices) + len(batch.unreadable))

        return detect_batches(detector, counted(loader), data)


def problem_of_object(part: str, data: DetectionSet, fault: WrongObject) -> Problem:
    """The problem that a wrong object is, in words, with the box that shows it."""
    label, suggested = (None if i is None else data.classes[i] for i in (fault.label, fault.suggested))
    return Problem(
        kind="object",
        part=part,
        paths=(str(data.images[fault.image].file),),
        words=words_of(fault.fault, label, suggested),
        score=round(fault.score, 6),
        label=label or "",
        suggested=suggested or "",
        box=rounded(fault.box),
    )


def words_of(fault: str, label: str | None, suggested: str | None) -> str:
    """One sentence on a fault."""
    return {
        "missing": f"{suggested} that is not annotated",
        "spurious": f"{label} where the detector sees nothing",
        "moved": f"{label} whose box lies elsewhere than the detector sees it",
        "class": f"annotated as {label}, looks like {suggested}",
        "outline": f"{label} whose outline is not what its box shows",
    }[fault]


def rounded(box: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(value, 2) for value in box)
    return x0, y0, x1, y1
