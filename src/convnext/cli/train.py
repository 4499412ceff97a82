"""The commands that train: `convnext pretrain` and `convnext train TASK`, one for each task."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
import types
import typing
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from convnext.cli.check import print_check
from convnext.cli.command import Command, Parser, add_json, add_set_option, set_options
from convnext.config import RENAMED, TrainConfig
from convnext.errors import InputError
from convnext.parsing import to_text, without_none, word_for_none
from convnext.printing import flag_of, listed, say, to_json
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.registry import TASKS

if TYPE_CHECKING:
    from convnext.api import TrainingResult
    from convnext.runs.directory import Run

log = logging.getLogger("convnext")


def _options(task: TaskDefinition, command: Parser) -> None:
    command.add_argument("data", metavar="DATA", help=task.data_help)
    command.add_argument(
        "--check", action="store_true", help="train nothing; say what is in DATA, and what is wrong with it"
    )
    command.add_argument("--out", type=Path, metavar="RUN", help="run directory to write")
    command.add_argument(
        "--recipe", metavar="NAME", help=f"recipe, a name of `convnext recipes`; without: {task.default_recipes}"
    )
    add_set_option(command)
    command.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        choices=["auto"],
        help="go on from the last checkpoint of the run at --out; auto: start where there is none (for schedulers)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace the run at --out, if there is one")
    command.add_argument(
        "--slurm",
        metavar="KEY=VALUE,...",
        help="submit the command to SLURM instead, and queue it again when its time is up; keys: nodes, gpus (on "
        "each node), cpus (for each GPU), hours, memory (GB), partition, account, qos, constraint",
    )
    add_json(command, "print the final metrics as one JSON object")
    add_config_options(command, task.config)
    command.add_argument(
        "-h", "--help", action=RecipeHelp, task=task, all=False, help="show this message with the common options"
    )
    command.add_argument(
        "--help-all", action=RecipeHelp, task=task, all=True, help="show this message with all options"
    )


def add_config_options(command: argparse.ArgumentParser, config: type[TrainConfig], *, hidden: bool = False) -> None:
    """A flag for each field that the command does not have; none has a default here, for the recipe gives it. Those
    that are `hidden` are not in its help."""
    hints = config.types()
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if field.name in ("recipe", "data", *config.FIXED):
            continue
        if flag_of(field.name) in command._option_string_actions:
            continue
        name = field.metadata["group"]
        if name not in groups:
            groups[name] = command.add_argument_group(name)
        flag = groups[name].add_argument(
            flag_of(field.name),
            metavar=value_name(hints[field.name]) + ("|auto" if field.metadata["or_auto"] else ""),
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS if hidden else field.metadata["help"].replace("%", "%%"),
        )
        if hints[field.name] in (bool, bool | None):  # may stand alone
            flag.nargs, flag.const = "?", "true"
    names = {field.name for field in dataclasses.fields(config)}
    for old, new in RENAMED.items():
        if new in names and flag_of(old) not in command._option_string_actions:
            flag = command.add_argument(flag_of(old), default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            if old == "agnostic":
                flag.nargs, flag.const = "?", "true"


def value_name(kind: Any) -> str:
    """Placeholder that help shows for the value of an option of this type."""
    if get_origin(kind) in (typing.Union, types.UnionType):
        return f"{value_name(without_none(kind))}|{word_for_none(kind)}"
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return ",".join(value_name(each) for each in get_args(kind))
    return {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT"}[kind]


class RecipeHelp(argparse.Action):
    """Help in which each option has the value that the chosen recipe gives it."""

    def __init__(self, *, task: TaskDefinition, all: bool, **options: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **{k: v for k, v in options.items() if k != "nargs"})
        self.task, self.all = task, all

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        from convnext.tasks.recipes import build_config

        model = getattr(namespace, "model", self.task.config().model)
        name = namespace.recipe or self.task.default_recipe(model, images=1000, trained=False)
        try:
            config = build_config(name, model, self.task.config)
        except InputError as error:
            parser.error(str(error))
        fields = {field.name: field for field in dataclasses.fields(config)}
        hidden = 0
        for action in parser._actions:
            field = fields.get(action.dest)
            if field is None or action.help == argparse.SUPPRESS or action.dest in ("recipe", "data"):
                continue
            if not self.all and not field.metadata["common"]:
                action.help, hidden = argparse.SUPPRESS, hidden + 1
            elif field.default_factory is dataclasses.MISSING:  # else it depends on the machine
                action.help += f" [{to_text(getattr(config, action.dest), config.types()[action.dest])}]"
        whose = "given" if namespace.recipe else "the default for small data"
        parser.epilog = f"Values in brackets are those of recipe {name} ({whose})."
        if hidden:
            parser.epilog += f" {hidden} more options: --help-all."
        parser.print_help()
        parser.exit()


def given_options(args: argparse.Namespace, config: type[TrainConfig]) -> dict[str, Any]:
    """The config fields given on the command line, still as text."""
    names = {field.name for field in dataclasses.fields(config)} - {"recipe", "data"} | RENAMED.keys()
    given = {name: value for name, value in vars(args).items() if name in names}
    return {**given, **set_options(args.set, vars(args).keys() - names)}


def _check(task: TaskDefinition, args: argparse.Namespace, given: dict[str, Any]) -> int:
    """Only look at the data, as a training with the options that are given would read them; `out` is not written."""
    from convnext.tasks.check import check_config
    from convnext.tasks.recipes import given_config

    chosen = {name: value for name, value in given.items() if name != "batch_size"}  # which may be "auto"
    config = given_config(task, {**chosen, "data": args.data}, args.recipe)
    found = check_config(task, config, config.workers if "workers" in chosen else None)
    return print_check(found, as_one_object=args.json)


def _run(task: TaskDefinition, args: argparse.Namespace) -> int | None:
    began = time.monotonic()  # importing torch takes its seconds of --hours
    given = given_options(args, task.config)
    if args.check:
        return _check(task, args, given)
    if args.out is None:
        raise InputError("--out says where the run goes")
    from convnext.api import train
    from convnext.runs.directory import Run

    how = {"recipe": args.recipe, "resume": args.resume, "overwrite": args.overwrite, "began": began}
    result = train(task, args.data, out=args.out, **how, **given)
    if not result.metrics:  # another process speaks for all
        return None
    run = Run(args.out)
    if run.unreadable.is_file():
        count = len(run.unreadable.read_bytes().splitlines())
        log.warning("%d training images could not be read: %s", count, run.unreadable)
    if args.json:
        print(to_json(result.metrics))
    else:
        config = task.config.from_dict(run.read_config())
        say("\n".join(ending_lines(result, run, task.next_commands(config, args.data, args.out))))
    return None


def ending_lines(result: TrainingResult, run: Run, commands: Sequence[str]) -> list[str]:
    """Lines printed after training: metrics and files of the run, the weakest class or size, a licence that restricts
    the use of its weights, and commands to go on."""
    files = ", ".join(["model.safetensors", *run.for_people()])
    return [
        f"reached: {result.reached or listed(result.metrics)}; {run.path} holds {files}",
        f"weakest: {result.weakest or 'not known'}",
        *([f"licence: the weights are {result.licence}"] if result.licence else []),
        "next:",
        *(f"  {command}" for command in commands),
    ]


TRAINING = tuple(
    Command(task.command, task.help, partial(_options, task), partial(_run, task), own_help=True) for task in TASKS
)
