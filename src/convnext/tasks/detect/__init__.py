"""Object detection and instance segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.errors import InputError
from convnext.printing import command_line
from convnext.tasks.definition import SMALL, SPLIT_OPTIONS, TaskDefinition
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.recipes import (
    cascade_v1,
    detect_small_data,
    detect_small_data_finetune,
    mask_rcnn_v1,
    mask_rcnn_v2,
)
from convnext.variants import find_variant

if TYPE_CHECKING:
    from convnext.data.check.part import CheckedData
    from convnext.data.check.problem import Problem
    from convnext.tasks.base import Task
    from convnext.tasks.card.words import CardWords
    from convnext.tasks.evaluate import Evaluator


class Detect(TaskDefinition):
    """Finds objects in images, and draws their outlines."""

    name = "detect"
    command = "train detect"
    help = "train a detector of objects and their masks"
    data_help = "folder of images with boxes: COCO, YOLO, VOC, Labelme, CVAT, Open Images; or the file that lists them"
    default_recipes = "detect_small_data up to 20,000 images, else a published one"
    config = DetectConfig
    answer_options = ("threshold", "tile", "out", "format")
    pipeline_tag = "object-detection"
    recipes = (detect_small_data, detect_small_data_finetune, mask_rcnn_v2, mask_rcnn_v1, cascade_v1)
    reading_options = (*SPLIT_OPTIONS, "format")
    sign = "anchor_scale"

    def read(self, config: DetectConfig) -> tuple[int, Any]:
        from convnext.tasks.detect.read import read_detection_data

        found = read_detection_data(config)
        return len(found.train), found

    def build(self, config: DetectConfig, data: Any) -> Task:
        from convnext.data.problems import log_problems
        from convnext.data.white_level import say_if_files_narrow
        from convnext.tasks.detect.task import Detection

        train, val, origin, faults = data
        log_problems(config.data, faults)
        say_if_files_narrow([image.file for image in train.images], config.white)
        return Detection(config, train, val, origin)

    def default_recipe(self, model: str, *, images: int, trained: bool) -> str:
        if images <= SMALL:
            return "detect_small_data_finetune" if trained else "detect_small_data"
        return "mask_rcnn_v2" if find_variant(model).version == 2 else "mask_rcnn_v1"

    def next_commands(self, config: DetectConfig, data: str, out: Path) -> Sequence[str]:
        return command_line("evaluate", out, data), f"{command_line('predict', out)} IMAGES --out FOLDER"

    def card_words(self, config: DetectConfig, classes: Sequence[str]) -> CardWords:
        from convnext.tasks.detect.card import detection_words

        return detection_words(config, classes)

    def recognises(self, data: str) -> bool:
        from convnext.data.sources.detection import DETECTION_FORMATS

        return any(form.find(Path(data)) for form in DETECTION_FORMATS.values())

    def checked_data(self, config: DetectConfig, source: str | None = None) -> CheckedData:
        from convnext.tasks.detect.check import checked_objects

        return checked_objects(config)

    def wrong_labels(
        self, config: DetectConfig, source: str | None, cross_fit: Callable[..., Any]
    ) -> Sequence[Problem]:
        from convnext.tasks.detect.wrong_labels import problems_of_objects

        if source is None:
            raise InputError("wrong objects are found by a run's own answers: give --with RUN")
        return problems_of_objects(config, source)

    def predictor(self, source: str | Path, meta: dict[str, Any]) -> Any:
        from convnext.inference.detector import build_detector
        from convnext.weights.files import read_tensors

        return build_detector(read_tensors(source), meta)

    def exported(self, network: Any, meta: dict[str, Any]) -> Any:
        from convnext.inference.detector import exported_detector

        return exported_detector(network, meta)

    def evaluator(self) -> Evaluator:
        from convnext.tasks.detect.evaluate import DetectionEvaluator

        return DetectionEvaluator()

    def answer(
        self, predictor: Any, images: list[tuple[str, Any]], *, as_json: bool, single: bool, **options: Any
    ) -> int:
        from convnext.tasks.detect.predict import detect_inputs

        return detect_inputs(predictor, images, as_json=as_json, **options)
