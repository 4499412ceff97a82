"""Semantic segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.errors import InputError
from convnext.printing import command_line
from convnext.tasks.definition import SMALL, SPLIT_OPTIONS, TaskDefinition
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.recipes import (
    segment_small_data,
    segment_small_data_finetune,
    upernet_640_v1,
    upernet_640_v2,
    upernet_v1,
    upernet_v2,
)
from convnext.variants import find_variant

if TYPE_CHECKING:
    from convnext.data.check.part import CheckedData
    from convnext.data.check.problem import Problem
    from convnext.tasks.base import Task
    from convnext.tasks.card.words import CardWords
    from convnext.tasks.evaluate import Evaluator


class Segment(TaskDefinition):
    """Says of every pixel which class it shows."""

    name = "segment"
    command = "train segment"
    help = "train a segmenter, which says what every pixel shows"
    data_help = (
        "folder of images with label maps of numbers or colours, or polygons (COCO, YOLO, Labelme, CVAT); panoptic COCO"
    )
    default_recipes = "segment_small_data up to 20,000 images, else a published one"
    config = SegmentConfig
    pipeline_tag = "image-segmentation"
    recipes = (segment_small_data, segment_small_data_finetune, upernet_v2, upernet_640_v2, upernet_v1, upernet_640_v1)
    reading_options = (*SPLIT_OPTIONS, "ignore_index", "reduce_zero_label", "label_map", "format")
    answer_options = ("out", "format")
    sign = "ignore_index"

    def read(self, config: SegmentConfig) -> tuple[int, Any]:
        from convnext.tasks.segment.read import read_segmentation_data, rules_of

        found = read_segmentation_data(config, rules_of(config))
        return len(found.train), found

    def build(self, config: SegmentConfig, data: Any) -> Task:
        from convnext.data.white_level import say_if_files_narrow
        from convnext.tasks.segment.read import examined, rules_of
        from convnext.tasks.segment.task import Segmentation

        train, val = examined(config, data)
        say_if_files_narrow([image.file for image in data.train.images], config.white)
        return Segmentation(config, train, val, data.origin, rules_of(config))

    def default_recipe(self, model: str, *, images: int, trained: bool) -> str:
        if images <= SMALL:
            return "segment_small_data_finetune" if trained else "segment_small_data"
        return "upernet_v2" if find_variant(model).version == 2 else "upernet_v1"

    def next_commands(self, config: SegmentConfig, data: str, out: Path) -> Sequence[str]:
        return command_line("evaluate", out, data), f"{command_line('predict', out)} IMAGES --out FOLDER"

    def card_words(self, config: SegmentConfig, classes: Sequence[str]) -> CardWords:
        from convnext.tasks.segment.card import segmentation_words

        return segmentation_words(config, classes)

    def recognises(self, data: str) -> bool:
        from convnext.data.shards.maps import find_map_shards
        from convnext.data.sources.map_layouts import find_map_layout
        from convnext.data.sources.panoptic_files import is_panoptic_alone

        path = Path(data)
        if path.is_dir() and (find_map_shards(path) or find_map_layout(path)):
            return True
        return path.exists() and is_panoptic_alone(path)

    def checked_data(self, config: SegmentConfig, source: str | None = None) -> CheckedData:
        from convnext.tasks.segment.check import checked_label_maps

        return checked_label_maps(config, source)

    def wrong_labels(
        self, config: SegmentConfig, source: str | None, cross_fit: Callable[..., Any]
    ) -> Sequence[Problem]:
        from convnext.tasks.segment.wrong_labels import problems_of_regions

        if source is None:
            raise InputError("wrong regions are found by a run's own answers: give --with RUN")
        return problems_of_regions(config, source)

    def predictor(self, source: str | Path, meta: dict[str, Any]) -> Any:
        from convnext.inference.segmenter import build_segmenter
        from convnext.weights.files import read_tensors

        return build_segmenter(read_tensors(source), meta)

    def exported(self, network: Any, meta: dict[str, Any]) -> Any:
        from convnext.inference.segmenter import segmenter_of

        return segmenter_of(network, meta)

    def evaluator(self) -> Evaluator:
        from convnext.tasks.segment.evaluate import SegmentationEvaluator

        return SegmentationEvaluator()

    def answer(
        self, predictor: Any, images: list[tuple[str, Any]], *, as_json: bool, single: bool, **options: Any
    ) -> int:
        from convnext.tasks.segment.predict import segment_inputs

        return segment_inputs(predictor, images, as_json=as_json, **options)
