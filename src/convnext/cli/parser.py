"""All commands and their options. Parsing imports nothing heavy."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, NoReturn

from convnext import __version__
from convnext.cli import commands
from convnext.config import RENAMED, TrainConfig
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.registry import TASKS


class Parser(argparse.ArgumentParser):
    """Bad arguments get one line. Options are not abbreviated: scripts outlive the abbreviation's being unique."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="convnext", description="ConvNeXt V1 and V2: train, evaluate, use.")
    top.add_argument("--version", action="version", version=f"convnext {__version__}")
    first = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(to: Any, name: str, function: Any, help: str) -> Parser:
        command = to.add_parser(name, help=help, description=help)
        command.set_defaults(command=function)
        return command

    command = add(first, "demo", commands.run_demo_command, "the whole story on embedded data, in minutes, on a CPU")
    command.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="RUN", help="default: runs/demo")

    command = add(first, "models", commands.run_models, "the family and its published weights")
    command.add_argument("--json", action="store_true", help="one JSON list")

    train = first.add_parser("train", help="train a model", description="Train a model.")
    groups = {"train": train.add_subparsers(title="tasks", metavar="TASK", required=True)}
    for task in TASKS:
        group, _, name = task.command.rpartition(" ")
        add_training(add(groups[group] if group else first, name, commands.run_train, task.help), task)

    command = add(first, "evaluate", commands.run_evaluate, "measure a model on labelled images")
    command.add_argument("source", metavar="SOURCE", help="run directory, weight file, published name or hf:ORG/NAME")
    command.add_argument("data", metavar="DATA", help="what `train` takes")
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        help="default: what DATA holds out, or was held out when SOURCE was trained on DATA; else all",
    )
    command.add_argument("--batch-size", type=int, default=64, help="default: 64")
    command.add_argument("--workers", type=int, default=2, help="processes that load images; default: 2")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    command.add_argument(
        "--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="type of the activations; default: fp32"
    )
    add_size_options(command)
    command.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write images.csv there, a row an image; of detectors objects.csv too",
    )
    command.add_argument("--scales", metavar="S,...", help="segmenters: see images at several scales: 0.75,1,1.25")
    command.add_argument("--flip", action="store_true", help="segmenters: see them mirrored too")
    command.add_argument("--json", action="store_true", help="one JSON object")

    command = add(first, "predict", commands.run_predict, "label images, find objects in them, or say what pixels show")
    command.add_argument("source", metavar="SOURCE", help="run directory, weight file, published name or hf:ORG/NAME")
    command.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="files, folders, globs, or - for an image or a list of paths on stdin",
    )
    command.add_argument("--top-k", type=int, default=5, help="labels an image; default: 5")
    command.add_argument(
        "--out", type=Path, metavar="FOLDER", help="all but classifiers: where drawings and results go"
    )
    command.add_argument("--threshold", type=float, default=0.5, help="detectors: least score; default: 0.5")
    command.add_argument(
        "--tile", type=int, metavar="SIDE", help="detectors: look at squares of so many pixels, one by one"
    )
    add_size_options(command)
    command.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, mps")
    command.add_argument(
        "--json", action="store_true", help="a line an image: the labels of a single file, else image and labels"
    )

    command = add(
        first, "pack", commands.run_pack, "pack images into tar shards, which train, pretrain and evaluate take as data"
    )
    command.add_argument("data", metavar="DATA", help="what `train classify` takes")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the shards go")
    command.add_argument(
        "--no-labels", action="store_true", help="any folder of images, flat or nested, to pre-train on"
    )
    command.add_argument("--multi-label", action="store_true", help="images of a table may have several labels")
    command.add_argument(
        "--val-fraction", type=float, default=0.2, help="held out where DATA does not say; default: 0.2"
    )
    command.add_argument("--shard-mb", type=int, default=256, help="megabytes of a shard; default: 256")
    command.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="make images smaller whose shorter side is longer, which training reads faster; default: copy files as "
        "they are",
    )
    command.add_argument("--seed", type=int, default=0, help="of the images' order; default: 0")

    command = add(first, "index", commands.run_index, "let tar files that others packed (WebDataset) be taken as data")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of tar files; the index goes there")

    analyze = first.add_parser("analyze", help="look into a model", description="Look into a model.")
    analyses = analyze.add_subparsers(title="analyses", metavar="ANALYSIS", required=True)
    command = add(
        analyses, "reconstruct", commands.run_reconstruct, "draw what a pre-trained model makes of hidden patches"
    )
    command.add_argument("source", metavar="SOURCE", help="pre-training run or weight file with its decoder")
    command.add_argument("inputs", metavar="IMAGES", nargs="+", help="files, folders or globs")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
    command.add_argument("--seed", type=int, default=0, help="of the masks; default: 0")
    command.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, mps")

    command = add(first, "recipes", commands.run_recipes, "the published experiments, and all values of one")
    command.add_argument("name", metavar="NAME", nargs="?", help="a recipe, to see its whole config")
    command.add_argument("--model", help="default: the first model the recipe takes")
    add_set_option(command)
    command.add_argument("--json", action="store_true", help="one JSON object or list")

    command = add(first, "doctor", commands.run_doctor, "what this machine has, and which fast paths it takes")
    command.add_argument("--json", action="store_true", help="one JSON object")
    return top


def add_training(command: argparse.ArgumentParser, task: TaskDefinition) -> None:
    """Add the arguments of a task's training command to its parser."""
    command.set_defaults(task=task)
    command.add_argument("data", metavar="DATA", help=task.data_help)
    if task.can_check:
        command.add_argument("--check", action="store_true", help="only say what is in DATA, and what is wrong with it")
    command.add_argument(
        "--out", type=Path, required=not task.can_check, metavar="RUN", help="the run directory to write"
    )
    command.add_argument("--recipe", help=f"a name of `convnext recipes`; default: {task.default_recipes}")
    add_set_option(command)
    command.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        choices=["auto"],
        help="go on from the run's last checkpoint; auto: or start, if there is none (for schedulers)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing run")
    command.add_argument(
        "--slurm",
        metavar="KEY=VALUE,...",
        help="submit the command to SLURM instead, and queue it again when its time is up; keys: nodes, gpus (on "
        "each), cpus (for each GPU), hours, memory (GB), partition, account, qos, constraint",
    )
    add_config_options(command, task.config)


def add_size_options(command: argparse.ArgumentParser) -> None:
    """Add the options for another image size or crop than the model was trained with."""
    command.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="side of the images a classifier sees, short side of those others see; default: the model's own",
    )
    command.add_argument(
        "--crop", type=float, metavar="C", help="classifiers: the centre crop's share of a resized image; 1 warps"
    )


def add_set_option(command: argparse.ArgumentParser) -> None:
    """Recipe values by name, as `config.json` writes them."""
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a recipe value by its name, as often as needed"
    )


def add_config_options(command: argparse.ArgumentParser, config: type[TrainConfig]) -> None:
    """A flag for each field; none has a default here, for the recipe gives it."""
    group = command.add_argument_group("recipe values", "what the recipe says, unless given here")
    for field in dataclasses.fields(config):
        if field.name not in ("recipe", "data", *config.FIXED):
            flag = group.add_argument(
                f"--{field.name.replace('_', '-')}",
                metavar="",
                default=argparse.SUPPRESS,
                help=field.metadata["help"].replace("%", "%%"),
            )
            if str(field.type).startswith("bool"):  # may stand alone
                flag.nargs, flag.const = "?", "true"
    names = {field.name for field in dataclasses.fields(config)}
    for old, new in RENAMED.items():
        if new in names:
            flag = group.add_argument(f"--{old.replace('_', '-')}", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            if old == "agnostic":
                flag.nargs, flag.const = "?", "true"
