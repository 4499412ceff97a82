"""Monocular depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.printing import command_line
from convnext.tasks.definition import SPLIT_OPTIONS, TaskDefinition
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.depth.recipes import depth_small_data, depth_small_data_finetune

if TYPE_CHECKING:
    from convnext.data.check.part import CheckedData
    from convnext.tasks.base import Task
    from convnext.tasks.card.words import CardWords
    from convnext.tasks.evaluate import Evaluator


class Depth(TaskDefinition):
    """Says of every pixel how far away it is."""

    name = "depth"
    command = "train depth"
    help = "train a depth estimator, which says how far away every pixel is"
    data_help = "folder with images/SPLIT and depth/SPLIT (16-bit PNGs of depths times --depth-scale, 0 for unknown)"
    default_recipes = "depth_small_data, or depth_small_data_finetune where --init was trained on labels"
    config = DepthConfig
    pipeline_tag = "depth-estimation"
    recipes = (depth_small_data, depth_small_data_finetune)
    reading_options = (*SPLIT_OPTIONS, "depth_scale")

    def read(self, config: DepthConfig) -> tuple[int, Any]:
        from convnext.tasks.depth.read import read_depth_data

        found = read_depth_data(config)
        return len(found.train), found

    def build(self, config: DepthConfig, data: Any) -> Task:
        from convnext.data.white_level import say_if_files_narrow
        from convnext.tasks.depth.read import usable_images
        from convnext.tasks.depth.task import DepthEstimation

        train, val = usable_images(config, data)
        say_if_files_narrow([image.file for image in data.train.images], config.white)
        return DepthEstimation(config, train, val, data.origin)

    def default_recipe(self, model: str, *, images: int, trained: bool) -> str:
        return "depth_small_data_finetune" if trained else "depth_small_data"

    def next_commands(self, config: DepthConfig, data: str, out: Path) -> Sequence[str]:
        return command_line("evaluate", out, data), f"{command_line('predict', out)} IMAGES --out FOLDER"

    def card_words(self, config: DepthConfig, classes: Sequence[str]) -> CardWords:
        from convnext.tasks.depth.card import depth_words

        return depth_words(config)

    def recognises(self, data: str) -> bool:
        from convnext.data.sources.depth_maps import DEPTH_FOLDER

        return all((Path(data) / name).is_dir() for name in ("images", DEPTH_FOLDER))

    def checked_data(self, config: DepthConfig, source: str | None = None) -> CheckedData:
        from convnext.tasks.depth.check import checked_depths

        return checked_depths(config)

    def predictor(self, source: str | Path, meta: dict[str, Any]) -> Any:
        from convnext.inference.depth import build_depth_estimator
        from convnext.weights.files import read_tensors

        return build_depth_estimator(read_tensors(source), meta)

    def exported(self, network: Any, meta: dict[str, Any]) -> Any:
        from convnext.inference.depth import depth_estimator_of

        return depth_estimator_of(network, meta)

    def evaluator(self) -> Evaluator:
        from convnext.tasks.depth.evaluate import DepthEvaluator

        return DepthEvaluator()

    def answer(
        self, predictor: Any, images: list[tuple[str, Any]], *, as_json: bool, single: bool, **options: Any
    ) -> int:
        from convnext.tasks.depth.predict import estimate_inputs

        return estimate_inputs(predictor, images, as_json=as_json, **options)
