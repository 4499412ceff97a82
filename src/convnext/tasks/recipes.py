"""All recipes: experiments, each a function that returns its whole config and opens with command, hardware and
result."""

from __future__ import annotations

import dataclasses
from typing import Any

from convnext.config import Config, TrainConfig
from convnext.errors import InputError, nearest
from convnext.tasks.definition import Recipe, TaskDefinition
from convnext.tasks.registry import TASKS
from convnext.variants import VARIANTS, find_variant

RECIPES: dict[str, Recipe] = {recipe.__name__: recipe for task in TASKS for recipe in task.recipes}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`; `InputError` with the nearest names if there is none."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe '{name}'; {nearest(name, list(RECIPES))}")
    return RECIPES[name]


def build_config(name: str, model: str, kind: type[Config]) -> Config:
    """The recipe's config for a model. `InputError` for a recipe of another task."""
    find_variant(model)
    config = find_recipe(name)(model)
    if not isinstance(config, kind):
        fitting = next(task.recipes for task in TASKS if task.config is kind)
        here = ", ".join(recipe.__name__ for recipe in fitting)
        raise InputError(f"recipe {name} is for `convnext {task_of_recipe(name).command}`; here: {here}")
    return dataclasses.replace(config, recipe=name)


def given_config(task: TaskDefinition, given: dict[str, Any], recipe: str | None) -> TrainConfig:
    """Options over the values of the recipe that is named, or over the task's defaults until one is chosen.

    Values that go together, as a stride and its window do, are compared with those they will be trained with.
    """
    if recipe is None:
        return task.config().override(given)
    own = {"model": given["model"]} if "model" in given else {}
    config = build_config(recipe, task.config().override(own).model, task.config).override(given)
    config.refuse_unused(given)
    return config


def task_of_recipe(name: str) -> TaskDefinition:
    """The task a recipe is for."""
    recipe = find_recipe(name)
    return next(task for task in TASKS if recipe in task.recipes)


def models_of(name: str) -> list[str]:
    """The models a recipe takes."""
    taken = []
    for model in VARIANTS:
        try:
            find_recipe(name)(model)
        except InputError:
            continue
        taken.append(model)
    return taken
