"""FCMAE pre-training (ConvNeXt V2, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.printing import command_line
from convnext.tasks.definition import SMALL, TaskDefinition
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.pretrain.fcmae.recipes import fcmae, fcmae_digits, fcmae_small_data

if TYPE_CHECKING:
    from convnext.data.check.part import CheckedData
    from convnext.tasks.base import Task
    from convnext.tasks.card.words import CardWords


class Fcmae(TaskDefinition):
    """Hides patches of images, and predicts their pixels."""

    name = "pretrain"
    command = "pretrain"
    help = "pre-train a model on images without labels (FCMAE)"
    data_help = "folder of images or videos, flat or nested, shards, or 'digits'"
    default_recipes = "fcmae_small_data up to 20,000 images, else fcmae"
    config = PretrainConfig
    recipes = (fcmae, fcmae_small_data, fcmae_digits)
    reading_options = ("exclude",)
    answers = False
    pipeline_tag = "image-feature-extraction"
    sign = "mask_ratio"

    def read(self, config: PretrainConfig) -> tuple[int, Any]:
        from convnext.data.exclude import read_exclude
        from convnext.data.image_set import read_images

        images = read_images(config.data, read_exclude(config.exclude), frame_rate=config.frame_rate)
        return len(images), images

    def build(self, config: PretrainConfig, data: Any) -> Task:
        from convnext.data.white_level import say_if_narrow
        from convnext.tasks.pretrain.fcmae.task import Pretraining

        say_if_narrow(data, config.white)
        return Pretraining(config, data)

    def default_recipe(self, model: str, *, images: int, trained: bool) -> str:
        return "fcmae_small_data" if images <= SMALL else "fcmae"

    def next_commands(self, config: PretrainConfig, data: str, out: Path) -> Sequence[str]:
        return config.follow_up(out), f"{command_line('analyze', 'reconstruct', out)} IMAGES --out FOLDER"

    def card_words(self, config: PretrainConfig, classes: Sequence[str]) -> CardWords:
        from convnext.tasks.pretrain.fcmae.card import pretraining_words

        return pretraining_words(config)

    def recognises(self, data: str) -> bool:
        return True  # any images

    def checked_data(self, config: PretrainConfig, source: str | None = None) -> CheckedData:
        from convnext.data.check.part import CheckedData, lines_of_images, part_of_images
        from convnext.data.problems import Problems

        part = part_of_images(self.read(config)[1])
        return CheckedData([part], Problems(), lambda unreadable: lines_of_images(part, unreadable[0]), [])

    def predictor(self, source: str | Path, meta: dict[str, Any]) -> Any:
        from convnext.inference.classifier import build_classifier

        return build_classifier(source)  # of an encoder, an `Embedder`
