"""From what a user gives to the task of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from convnext.config import TrainConfig
from convnext.errors import InputError
from convnext.printing import counted
from convnext.runs.directory import Run, parsed, read_text, task_of
from convnext.runs.resume import resumed_config
from convnext.runtime import distributed
from convnext.tasks.base import Task
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.recipes import build_config, given_config
from convnext.tasks.registry import TASKS, find_task
from convnext.weights import are_trained

log = logging.getLogger("convnext")


def build_task(
    task: TaskDefinition, data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool
) -> Task:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's."""
    if resume:
        Run.reopen(out)  # says what is wrong with a folder that is no run
        if (begun := task_of_run(out)).name != task.name:
            raise InputError(f"{out} was begun by `convnext {begun.command}`, which also resumes it")
        config = resumed_config(task.config, data, out, given, recipe)
        config.refuse_unused(given)
        return task.build(config, task.read(config)[1])
    options = {**given, "data": data}
    first = given_config(task, options, recipe)
    if "epochs" in given and first.hours is not None:
        raise InputError("hours must not be given beside epochs: both say how long to train")
    images, read = task.read(first)
    chosen = chosen_recipe(task, first, images) if recipe is None else None
    if "model" not in given and distributed.rank() == 0:
        log.info("model %s, the smallest and fastest of V2; choose another with --model", first.model)
    if chosen is None:
        return task.build(first, read)
    config = build_config(chosen, first.model, task.config).override(options)
    config.refuse_unused(given)
    if any(getattr(config, option) != getattr(first, option) for option in task.reading_options):
        read = task.read(config)[1]
    return task.build(config, read)


def chosen_recipe(task: TaskDefinition, config: TrainConfig, images: int) -> str:
    """Name of the recipe for so many training images and the initial weights; it is said, with the reasons."""
    trained = are_trained(config.init)
    name = task.default_recipe(config.model, images=images, trained=trained)
    if distributed.rank() == 0:
        weights = "initial weights trained on labels" if trained else "initial weights random or trained without labels"
        log.info("recipe %s (%s, %s); choose another with --recipe", name, counted(images, "training image"), weights)
    return name


def task_of_run(path: Path) -> TaskDefinition:
    """The task of a run; of runs of before, which do not name it, by an option that only one task has."""
    name = task_of(path)
    if name is None:
        config = parsed(read_text(path / "config.json"))
        return next((task for task in TASKS if task.sign and task.sign in config), find_task("classify"))
    return find_task(name)
