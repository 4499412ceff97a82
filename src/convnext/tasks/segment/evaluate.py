"""Measuring a segmenter."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convnext.data.map_loading import WholeBatch
from convnext.data.measured import parts_to_read
from convnext.data.parts import measured_images
from convnext.data.problems import log_problems
from convnext.data.sources.label_maps import (
    LabelRules,
    SegmentationSet,
    examine_label_maps,
    with_model_classes,
)
from convnext.data.sources.segmentation import find_label_parts, read_label_maps
from convnext.data.splits import Split
from convnext.errors import InputError
from convnext.inference.segmenter import Segmenter
from convnext.tasks.evaluate import Rows
from convnext.tasks.maps import MapEvaluator
from convnext.tasks.origin import config_beside, origin_of_model
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.metrics import (
    IOU_COLUMNS,
    Measured,
    iou_metrics,
    iou_rows,
    merge_measured,
    say_unmeasured,
    segment_batches,
    take_measured,
)
from convnext.weights import read_meta

log = logging.getLogger("convnext")


class SegmentationEvaluator(MapEvaluator):
    """Mean intersection over union, and accuracy, in percent."""

    config = SegmentConfig
    main_metrics = ("mIoU",)
    has_formats = True

    def held_out(
        self, source: str, predictor: Segmenter, data: str, split: Split | None
    ) -> tuple[SegmentationSet, str]:
        origin = origin_of_model(source, self.config)
        only = parts_to_read(data, find_label_parts(data, self.format)[1], split, origin)
        parts, faults = read_label_maps(data, label_rules_of_model(source), only=only, form=self.format)
        part, name = measured_images(data, parts, split, origin, self.exclude)
        part, other = with_model_classes(part, predictor.classes, data)
        if other:
            log.warning("%s: classes that the model has not, whose pixels are ignored: %s", data, ", ".join(other))
        examined = examine_label_maps(part, faults)
        log_problems(data, faults)
        say_unmeasured(examined.pixels.tolist(), part.classes)
        return examined.data, name

    def answer(self, predictor: Segmenter, batches: Iterable[WholeBatch], part: SegmentationSet) -> Measured:
        return segment_batches(predictor, batches)

    def merge(self, answers: Sequence[Measured]) -> Measured:
        return merge_measured(answers)

    def metrics(self, predictor: Segmenter, answers: Measured, part: SegmentationSet) -> dict[str, Any]:
        return iou_metrics(answers.matrix)

    def subset(self, answers: Measured, places: Sequence[int]) -> Measured:
        return take_measured(answers, places)

    def measured_places(self, answers: Measured, part: SegmentationSet) -> Iterable[int]:
        return [image.place for image in answers.images]

    def shifted(self, answers: Measured, by: int) -> Measured:
        return answers._replace(images=[each._replace(place=each.place + by) for each in answers.images])

    def rows(self, answers: Measured, part: SegmentationSet) -> Sequence[Rows]:
        return [Rows(iou_rows(answers, part), IOU_COLUMNS)]


def label_rules_of_model(source: str | Path) -> LabelRules:
    """The meaning of the numbers in label maps, as a segmenter was trained with it. `InputError` for a run of another
    task."""
    own = read_meta(source)
    if "labels" in own:
        return LabelRules(**own["labels"])
    config = config_beside(source)
    if config is None:
        log.warning("%s does not say what numbers in label maps mean: only 255 is taken for no class", source)
        return LabelRules()
    if "ignore_index" not in config:
        raise InputError(f"{source} is no segmenter")
    return LabelRules.read(config["ignore_index"], config["reduce_zero_label"], config["label_map"])
