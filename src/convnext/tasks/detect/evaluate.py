"""Measuring a detector."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from convnext.data.measured import parts_to_read
from convnext.data.parts import measured_images
from convnext.data.problems import log_problems
from convnext.data.sources.annotated import DetectionSet
from convnext.data.sources.detection import find_detection, read_annotated
from convnext.data.splits import Split
from convnext.inference.detector import Detector
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.data import DetectionBatch, detection_eval_loader
from convnext.tasks.detect.matching import IMAGE_COLUMNS, OBJECT_COLUMNS, best_thresholds, matched
from convnext.tasks.detect.metrics import (
    Result,
    detect_batches,
    evaluate_kinds,
    has_objects,
    merge_results,
    metrics_of,
    take_results,
)
from convnext.tasks.evaluate import Evaluator, Rows
from convnext.tasks.origin import origin_of_model

DETECT_EVAL_BATCH = 4
"""Most images in a batch: they are large, and masks more so."""

log = logging.getLogger("convnext")


class DetectionEvaluator(Evaluator):
    """COCO's average precision and recall, in percent."""

    config = DetectConfig
    main_metrics = ("mask_AP", "box_AP")
    tables = ("images.csv", "objects.csv")
    resamples = 200
    has_formats = True
    least: Sequence[float]
    """The score from which an object of each class counts in tables: of the predictor that answered."""

    def held_out(self, source: str, predictor: Detector, data: str, split: Split | None) -> tuple[DetectionSet, str]:
        origin = origin_of_model(source, self.config)
        only = parts_to_read(data, find_detection(data, self.format).parts, split, origin)
        read = read_annotated(data, only=only, classes=predictor.classes, form=self.format)
        log_problems(data, read.faults)
        part, name = measured_images(data, read.parts, split, origin, self.exclude)
        if not has_objects(part):
            log.warning("%s has no objects: nothing is measured", name)
        return part, name

    def batches(
        self, predictor: Detector, part: DetectionSet, *, batch_size: int, workers: int, rank: int = 0, count: int = 1
    ) -> Iterable[DetectionBatch]:
        size, how = min(batch_size, DETECT_EVAL_BATCH), predictor.transform
        return detection_eval_loader(part, how, batch_size=size, workers=workers, rank=rank, processes=count)

    def answer(self, predictor: Detector, batches: Iterable[DetectionBatch], part: DetectionSet) -> list[Result]:
        self.least = predictor.least()
        return detect_batches(predictor, batches, part)

    def merge(self, answers: Sequence[list[Result]]) -> list[Result]:
        return merge_results(answers)

    def metrics(self, predictor: Detector, answers: list[Result], part: DetectionSet) -> dict[str, Any]:
        return metrics_of(part, evaluate_kinds(part, answers, predictor.model))

    def subset(self, answers: list[Result], places: Sequence[int]) -> list[Result]:
        return take_results(answers, places)

    def shifted(self, answers: list[Result], by: int) -> list[Result]:
        return [each._replace(image=each.image + by) for each in answers]

    def calibration(self, predictor: Detector, answers: list[Result], part: DetectionSet) -> dict[str, Any] | None:
        return best_thresholds(part, answers) if has_objects(part) else None

    def rows(self, answers: list[Result], part: DetectionSet) -> Sequence[Rows]:
        images, objects = matched(part, answers, self.least)
        return [Rows(images, IMAGE_COLUMNS), Rows(objects, OBJECT_COLUMNS)]
