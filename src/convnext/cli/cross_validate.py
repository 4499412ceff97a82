"""`convnext cross-validate`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convnext.cli.command import Command, Parser, add_json, add_set_option
from convnext.cli.train import add_config_options, given_options
from convnext.config import SupervisedConfig
from convnext.errors import InputError
from convnext.printing import counted, flag_of, say, to_json
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.registry import TASKS

SUPERVISED = tuple(task for task in TASKS if issubclass(task.config, SupervisedConfig))
"""Tasks that learn from labels."""


def _options(command: Parser) -> None:
    command.add_argument(
        "data", metavar="DATA", help="data as `convnext train` takes it; its own train and val are split anew"
    )
    command.add_argument(
        "--task", choices=[task.name for task in SUPERVISED], default=SUPERVISED[0].name, help="task that is trained"
    )
    command.add_argument(
        "--folds",
        type=int,
        default=5,
        metavar="N",
        help="number of folds, and of runs, each of which holds out another fold",
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the runs fold-1 to fold-N and the tables go"
    )
    command.add_argument(
        "--recipe", metavar="NAME", help="recipe, a name of `convnext recipes`; without: one that suits DATA"
    )
    add_set_option(command)
    command.add_argument("--overwrite", action="store_true", help="begin anew; without, what was begun goes on")
    add_json(command, "one JSON object: what cross_validation.json holds")
    for task in SUPERVISED:
        add_config_options(command, task.config, hidden=True)
    command.epilog = "Every option of `convnext train TASK` is taken too, such as --group-by and --stratify."


def _run(args: argparse.Namespace) -> None:
    from convnext.api import RESULT, cross_validate

    task = next(task for task in SUPERVISED if task.name == args.task)
    _refuse_options_of_others(task, args)
    how = {"out": args.out, "folds": args.folds, "recipe": args.recipe, "overwrite": args.overwrite}
    found = cross_validate(task, args.data, **how, **given_options(args, task.config))
    if args.json:
        print(to_json(found))
        return
    for line in _lines(found):
        say(line)
    say(f"{args.out}: {RESULT}, images.csv with the answer about every image, and the runs")


def _refuse_options_of_others(task: TaskDefinition, args: argparse.Namespace) -> None:
    own = {field.name for field in dataclasses.fields(task.config)} - set(task.config.FIXED)
    others = {field.name for each in SUPERVISED for field in dataclasses.fields(each.config)} - own
    for name in vars(args):
        if name in others:
            raise InputError(f"{flag_of(name)} is no option of `convnext {task.command}`")


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """A line a metric: mean and deviation over the folds, their ends, and the metric of all images together."""
    others = {"unreadable": "that cannot be read", "unmeasured": "that cannot be measured"}
    left = "".join(f", {found[name]:,} {what}" for name, what in others.items() if found.get(name))
    yield f"{len(found['folds'])} folds, {counted(found['images'], 'image')}{left}"
    yield f"{'':<18}{'mean ± deviation':>22}{'lowest':>12}{'highest':>12}{'all images':>14}"
    for name, mean in found["mean"].items():
        ends = f"{found['lowest'][name]:>12.4f}{found['highest'][name]:>12.4f}"
        union = found["union"].get(name)
        all_images = "" if union is None else f"{union:>14.4f}"
        yield f"{name:<18}{mean:>12.4f} ± {found['deviation'][name]:>7.4f}{ends}{all_images}"


CROSS_VALIDATE = Command("cross-validate", "train and measure on every fold of the data in turn", _options, _run)
