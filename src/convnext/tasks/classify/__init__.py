"""Image classification, single- or multi-label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.errors import InputError
from convnext.printing import command_line
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.recipes.digits import digits
from convnext.tasks.classify.recipes.imagenet_v1 import finetune_22k_v1, finetune_384_v1, scratch_22k_v1, scratch_v1
from convnext.tasks.classify.recipes.imagenet_v2 import finetune_22k_v2, finetune_v2, intermediate_22k_v2
from convnext.tasks.classify.recipes.small_data import small_data, small_data_finetune
from convnext.tasks.definition import SMALL, SPLIT_OPTIONS, TaskDefinition
from convnext.variants import find_variant

if TYPE_CHECKING:
    from convnext.data.check.part import CheckedData
    from convnext.data.check.problem import Problem
    from convnext.tasks.base import Task
    from convnext.tasks.card.words import CardWords
    from convnext.tasks.evaluate import Evaluator


class Classify(TaskDefinition):
    """Says which classes an image shows."""

    name = "classify"
    command = "train classify"
    help = "train an image classifier"
    data_help = "folder of class folders, table (CSV, JSONL, Parquet), data set saved to disk, shards, or 'digits'"
    default_recipes = "small_data up to 20,000 images, else the paper's"
    config = ClassifyConfig
    answer_options = ("top_k", "out", "format")
    pipeline_tag = "image-classification"
    elsewhere = True
    recipes = (
        small_data, small_data_finetune, digits,
        finetune_v2, intermediate_22k_v2, finetune_22k_v2,
        scratch_v1, finetune_384_v1, scratch_22k_v1, finetune_22k_v1,
    )  # fmt: skip
    reading_options = (*SPLIT_OPTIONS, "multi_label", "format")

    def read(self, config: ClassifyConfig) -> tuple[int, Any]:
        from convnext.data.image_set import read_train_val
        from convnext.tasks.splitting import splitting_of

        how = splitting_of(config)._asdict()
        read = read_train_val(config.data, multi_label=config.multi_label, form=config.format, **how)
        return len(read.train), read

    def build(self, config: ClassifyConfig, data: Any) -> Task:
        from convnext.data.white_level import say_if_narrow
        from convnext.tasks.classify.task import Classification

        say_if_narrow(data.train, config.white)
        return Classification(config, *data)

    def default_recipe(self, model: str, *, images: int, trained: bool) -> str:
        if images <= SMALL:
            return "small_data_finetune" if trained else "small_data"
        return "finetune_v2" if find_variant(model).version == 2 else "scratch_v1"

    def next_commands(self, config: ClassifyConfig, data: str, out: Path) -> Sequence[str]:
        return command_line("evaluate", out, data), f"{command_line('predict', out)} IMAGE"

    def card_words(self, config: ClassifyConfig, classes: Sequence[str]) -> CardWords:
        from convnext.tasks.classify.card import classification_words

        return classification_words(config, classes)

    def recognises(self, data: str) -> bool:
        from convnext.data.sources.listing import read_listing

        try:
            return len(read_listing(data, None, multi_label=True).classes) > 1
        except InputError:
            return False

    def checked_data(self, config: ClassifyConfig, source: str | None = None) -> CheckedData:
        from convnext.tasks.classify.check import checked_images

        return checked_images(config)

    def wrong_labels(
        self, config: ClassifyConfig, source: str | None, cross_fit: Callable[..., Any]
    ) -> Sequence[Problem]:
        from convnext.tasks.classify.wrong_labels import problems_of_labels

        return problems_of_labels(config, source, cross_fit)

    def predictor(self, source: str | Path, meta: dict[str, Any]) -> Any:
        from convnext.inference.classifier import build_classifier

        return build_classifier(source)

    def exported(self, network: Any, meta: dict[str, Any]) -> Any:
        from convnext.inference.classifier import classifier_of

        return classifier_of(network, meta)

    def evaluator(self) -> Evaluator:
        from convnext.tasks.classify.evaluate import ClassificationEvaluator

        return ClassificationEvaluator()

    def answer(
        self, predictor: Any, images: list[tuple[str, Any]], *, as_json: bool, single: bool, **options: Any
    ) -> int:
        from convnext.tasks.classify.predict import label_inputs

        return label_inputs(predictor, images, as_json=as_json, single=single, **options)
