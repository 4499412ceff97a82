"""Measuring a depth estimator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from convnext.data.map_loading import WholeBatch
from convnext.data.measured import parts_to_read
from convnext.data.parts import measured_images
from convnext.data.problems import log_left_out
from convnext.data.sources.depth_maps import DEPTH_FOLDER, DepthSet, examine_depths, read_depth_maps
from convnext.data.sources.maps import find_map_parts
from convnext.data.splits import Split
from convnext.inference.depth import DepthEstimator
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.depth.metrics import (
    DEPTH_COLUMNS,
    MeasuredDepths,
    depth_metrics,
    depth_rows,
    estimate_batches,
    merge_measured_depths,
    take_measured_depths,
)
from convnext.tasks.evaluate import Rows
from convnext.tasks.maps import MapEvaluator
from convnext.tasks.origin import origin_of_model


class DepthEvaluator(MapEvaluator):
    """Errors of depths, means over the images."""

    config = DepthConfig
    main_metrics = ("delta1",)

    def held_out(self, source: str, predictor: DepthEstimator, data: str, split: Split | None) -> tuple[DepthSet, str]:
        origin = origin_of_model(source, self.config)
        only = parts_to_read(data, find_map_parts(data, DEPTH_FOLDER), split, origin)
        parts, faults = read_depth_maps(data, predictor.depth_scale, only)
        part, name = measured_images(data, parts, split, origin, self.exclude)
        examined, _ = examine_depths(part, faults)
        log_left_out(data, faults)
        return examined, name

    def answer(self, predictor: DepthEstimator, batches: Iterable[WholeBatch], part: DepthSet) -> MeasuredDepths:
        return estimate_batches(predictor, batches)

    def merge(self, answers: Sequence[MeasuredDepths]) -> MeasuredDepths:
        return merge_measured_depths(answers)

    def metrics(self, predictor: DepthEstimator, answers: MeasuredDepths, part: DepthSet) -> dict[str, Any]:
        return depth_metrics(answers)

    def subset(self, answers: MeasuredDepths, places: Sequence[int]) -> MeasuredDepths:
        return take_measured_depths(answers, places)

    def measured_places(self, answers: MeasuredDepths, part: DepthSet) -> Iterable[int]:
        return [place for place, _, _ in answers.images]

    def shifted(self, answers: MeasuredDepths, by: int) -> MeasuredDepths:
        return answers._replace(images=[(place + by, pixels, own) for place, pixels, own in answers.images])

    def rows(self, answers: MeasuredDepths, part: DepthSet) -> Sequence[Rows]:
        return [Rows(depth_rows(answers, part), DEPTH_COLUMNS)]
