"""Labels that may be wrong, of any task: what `convnext check --labels` looks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convnext.data.check.problem import Problem
from convnext.tasks.definition import SMALL, TaskDefinition
from convnext.tasks.recipes import build_config, given_config
from convnext.train.cross_fit import answers_out_of_fold
from convnext.weights import are_trained

QUICK_EPOCHS = 20
"""Length of a training that answers out of fold, where neither a recipe nor epochs are given."""


def find_wrong_labels(
    task: TaskDefinition, options: dict[str, Any], *, source: str | None = None, recipe: str | None = None
) -> Sequence[Problem]:
    """Labels that may be wrong, worst first, as problems whose paths are files.

    Args:
        task: what the data are for.
        options: of its training, with `data`.
        source: weights that answer; None: classifiers are trained for it, on parts of the images.
        recipe: of those trainings; None: that for small data, for `QUICK_EPOCHS` epochs.

    Raises:
        InputError: a task whose labels are not looked at, or that needs a source.
    """
    first = given_config(task, options, recipe)
    name = recipe or task.default_recipe(first.model, images=SMALL, trained=are_trained(first.init))
    quick = {"epochs": QUICK_EPOCHS} if recipe is None else {}
    config = build_config(name, first.model, task.config).override({**quick, **options})
    return task.wrong_labels(config, source, answers_out_of_fold)
