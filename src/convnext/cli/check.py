"""`convnext check`, and what `--check` of the training commands prints."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING

from convnext.cli.command import (
    Command,
    Parser,
    add_exclude,
    add_json,
    add_out,
    add_set_option,
    refuse_below,
    set_options,
)
from convnext.errors import InputError
from convnext.printing import counted, first_names, flag_of, say, to_json
from convnext.tasks.registry import TASKS, find_task

if TYPE_CHECKING:
    from convnext.tasks.check import DataCheck

PRINTED = 3
"""Problems of a kind that are printed."""

READING = ("format", "exclude", "val_fraction", "group_by")
"""Options of trainings, by which data are read, that the command has as they are."""


def _help_of(name: str) -> str:
    """Help of an option of trainings, which is that of all tasks that have it."""
    return next(each.metadata["help"] for task in TASKS for each in fields(task.config) if each.name == name)


def _options(command: Parser) -> None:
    command.add_argument("data", metavar="DATA", help="data as `convnext train` or `convnext pretrain` takes it")
    command.add_argument(
        "--task",
        choices=[task.name for task in TASKS],
        help="task that DATA is for; without: what its format says (boxes, label maps, depth maps, classes or images)",
    )
    command.add_argument(
        "--format", metavar="NAME", help="format of the annotations, where DATA has several: coco, yolo, voc, ..."
    )
    add_exclude(command)
    command.add_argument("--val-fraction", metavar="SHARE", help=_help_of("val_fraction"))
    command.add_argument("--group-by", metavar="TEXT", help=_help_of("group_by"))
    add_set_option(command, "another value for an option of the task's training, by its name in config.json")
    command.add_argument(
        "--labels",
        action="store_true",
        help="look for labels that may be wrong too, by the answers of a model (--with)",
    )
    command.add_argument(
        "--with",
        dest="source",
        metavar="SOURCE",
        help="with --labels: model that judges the labels: for classify a run, a pre-training run or published "
        "weights; for detect and segment a run; without: classifiers are trained, each on half of the images",
    )
    command.add_argument(
        "--recipe",
        metavar="NAME",
        help="with --labels and no --with: recipe of those trainings; without: small_data for 20 epochs",
    )
    command.add_argument("--workers", type=int, metavar="N", help="processes that read images; without: one a core")
    add_out(command, "write index.html (problems with their images), problems.csv, exclude.csv and check.json there")
    add_json(command, "one JSON object: counts of images, objects and classes by split, and of problems")


def _run(args: argparse.Namespace) -> int:
    from convnext.tasks.check import guess_task
    from convnext.train.check import check

    options = set_options(args.set, vars(args).keys() - set(READING))
    given = {name: getattr(args, name) for name in READING if getattr(args, name) is not None}
    refuse_below(args, workers=0)
    if not args.labels and (args.source is not None or args.recipe is not None):
        raise InputError("--with and --recipe are for --labels")
    task = guess_task(args.data) if args.task is None else find_task(args.task)
    for name in given.keys() - task.config.types().keys():
        raise InputError(f"{flag_of(name)} is no option of `convnext {task.command}`, for which DATA are")
    found = check(
        args.data,
        task=task.name,
        out=args.out,
        workers=args.workers,
        labels=args.labels,
        source=args.source,
        recipe=args.recipe,
        **{**options, **given},
    )
    status = print_check(found, as_one_object=args.json)
    if args.out is not None and not args.json:
        say(f"{args.out / 'index.html'} shows all; {args.out / 'exclude.csv'} lists what may be left out")
    return status


def print_check(found: DataCheck, *, as_one_object: bool) -> int:
    """Print a check; returns the exit status: 1 where something cannot be used, or lies in two parts."""
    from convnext.tasks.check import as_json

    kinds = Counter(problem.kind for problem in found.problems)
    if as_one_object:
        print(to_json(as_json(found)))
    else:
        say("\n".join([*found.found, *(f"left out {line}" for line in found.left_out), *problem_lines(found)]))
    return 1 if found.left_out or kinds["leak"] or kinds["unreadable"] else 0


def problem_lines(found: DataCheck) -> list[str]:
    """Number of problems of each kind, and the first of them."""
    from convnext.data.check.problem import PROBLEM_KINDS

    lines = []
    for kind, count in Counter(problem.kind for problem in found.problems).items():
        lines.append(f"{PROBLEM_KINDS[kind].title}: {count:,}")
        own = [problem for problem in found.problems if problem.kind == kind]
        for problem in own[:PRINTED]:
            names = first_names(problem.paths, 2)
            lines.append(f"  {names}{': ' if names else ''}{problem.words}")
        if count > PRINTED:
            lines.append(f"  and {counted(count - PRINTED, 'more', 'more')}")
    return lines


CHECK = Command("check", "say what is in a data set, and what is wrong with it", _options, _run)
