"""Definitions of tasks: name, command, options, recipes, and the functions that read, train, measure and answer.

Importing one imports nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convnext.config import TrainConfig
from convnext.errors import InputError, WeightsError

if TYPE_CHECKING:
    from convnext.data.check.part import CheckedData
    from convnext.data.check.problem import Problem
    from convnext.tasks.base import Task
    from convnext.tasks.card.words import CardWords
    from convnext.tasks.evaluate import Evaluator

SMALL = 20_000
"""Up to so many training images, the recipes for small data are the default."""

SPLIT_OPTIONS = ("val_fraction", "hold_out_rule", "group_by", "stratify", "fold", "time_column", "exclude")
"""Options of supervised tasks that decide which images are trained on."""

Recipe = Callable[[str], TrainConfig]
"""A model's name to a config; `InputError` for a model the recipe was not published for."""


class TaskDefinition(ABC):
    """A task, as the command line, `load`, the recipes and the cards see it. Its methods import what they need."""

    name: ClassVar[str]
    """Name that runs and weight files store."""
    command: ClassVar[str]
    """Command that trains, after `convnext`."""
    help: ClassVar[str]
    data_help: ClassVar[str]
    """Forms of data that the command takes."""
    default_recipes: ClassVar[str]
    """Rule by which a recipe is chosen where none is named, for the command's help."""
    config: ClassVar[type[TrainConfig]]
    recipes: ClassVar[tuple[Recipe, ...]]
    reading_options: ClassVar[tuple[str, ...]] = ()
    """Options that decide what is read of the data."""
    answer_options: ClassVar[tuple[str, ...]] = ("out",)
    """Options of `convnext predict` that the task's models take, beside those that all take."""
    answers: ClassVar[bool] = True
    """Whether its models answer with more than embeddings."""
    pipeline_tag: ClassVar[str] = ""
    """Name of the task on the Hugging Face Hub; empty where it has none."""
    elsewhere: ClassVar[bool] = False
    """Whether transformers and timm have a class for its networks."""
    sign: ClassVar[str] = ""
    """Option by which runs are known that do not store their task's name."""

    @abstractmethod
    def read(self, config: Any) -> tuple[int, Any]:
        """Number of training images, and all that `build` needs of the data. `InputError` for data of another form."""

    @abstractmethod
    def build(self, config: Any, data: Any) -> Task:
        """The task of a run, of what `read` returned."""

    @abstractmethod
    def default_recipe(self, model: str, *, images: int, trained: bool) -> str:
        """Name of the recipe that suits so many images; `trained` says that the first weights learnt from labels."""

    @abstractmethod
    def next_commands(self, config: Any, data: str, out: Path) -> Sequence[str]:
        """Next steps after a training on `data` into `out`: commands to paste, with a word in capitals for what is
        not known."""

    def card_words(self, config: Any, classes: Sequence[str]) -> CardWords:
        """Words of the task in a model card. `InputError` for a task that has none."""
        raise InputError(f"`convnext {self.command}` has no words for a model card")

    def recognises(self, data: str) -> bool:
        """Whether data are of a form that this task alone trains on, or this one before others."""
        return False

    def checked_data(self, config: Any, source: str | None = None) -> CheckedData:
        """All parts of a data set, for `convnext check`. `InputError` for what training would refuse.

        `source` are weights that know what the labels mean, where the config does not say it.
        """
        raise InputError(f"`convnext {self.command}` has no --check")

    def wrong_labels(self, config: Any, source: str | None, cross_fit: Callable[..., Any]) -> Sequence[Problem]:
        """Labels that may be wrong, worst first, by the weights at `source`, or of classifiers without them by short
        trainings (`train.cross_fit.answers_out_of_fold`). `InputError` for a task that cannot say."""
        raise InputError(f"wrong labels are not looked for in what `convnext {self.command}` trains on")

    def predictor(self, source: str | Path, meta: dict[str, Any]) -> Any:
        """The predictor of weights that store this task's name. `WeightsError` for weights that cannot answer."""
        raise InputError(f"what `convnext {self.command}` trains does not answer about images")

    def exported(self, network: Any, meta: dict[str, Any]) -> Any:
        """The predictor on an exported network. `WeightsError` for metadata of a task whose networks have no export."""
        raise WeightsError(f"what `convnext {self.command}` trains cannot be exported")

    def evaluator(self) -> Evaluator:
        """How the task is measured. `InputError` for a task without labels."""
        raise InputError(f"what `convnext {self.command}` trains is not measured on labels")

    def answer(
        self, predictor: Any, images: list[tuple[str, Any]], *, as_json: bool, single: bool, **options: Any
    ) -> int:
        """Print and write the predictor's answers about images, for `convnext predict`; returns the exit status.

        `single` says that one file was named; `options` are some of `answer_options`.
        """
        raise InputError(f"what `convnext {self.command}` trains does not answer about images")
