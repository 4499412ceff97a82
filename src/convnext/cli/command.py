"""Definition of a command, and the parser of its options. Importing this module imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from convnext.errors import InputError, nearest
from convnext.printing import flag_of


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Args:
        name: after `convnext`; "train classify" is a command in the group "train".
        help: what it does, in a line.
        options: adds its options to a parser.
        run: its body, which returns the exit status; None is 0. It imports what it needs.
        own_help: whether its options hold a `--help` of its own.
    """

    name: str
    help: str
    options: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int | None]
    own_help: bool = False


class Formatter(argparse.HelpFormatter):
    """Help that shows the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        if action.option_strings and action.default not in (None, False, [], argparse.SUPPRESS) and "%(" not in text:
            return f"{text} [default: %(default)s]"
        return text


class Parser(argparse.ArgumentParser):
    """Bad arguments get one line. Options are not abbreviated: scripts outlive the abbreviation's being unique."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": Formatter, **options}, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; an unknown option ends the program with one line that names the nearest known one."""
        found, rest = self.parse_known_args(args, namespace)
        parser: Parser = found.__dict__.pop("parser", self)
        if rest:
            name = rest[0].split("=")[0]
            known = [flag for flag, action in parser._option_string_actions.items() if action.help != argparse.SUPPRESS]
            hint = f"; {nearest(name, [flag for flag in known if flag.startswith('--')])}" if name[:1] == "-" else ""
            parser.error(f"there is no {'option' if name[:1] == '-' else 'place for'} {name}{hint}")
        return found


def refuse_below(args: argparse.Namespace, **least: int) -> None:
    """`InputError` for an option, by its name, that is given and below the least number that it takes."""
    for name, number in least.items():
        if (given := getattr(args, name, None)) is not None and given < number:
            raise InputError(f"{flag_of(name)} must be at least {number}, not {given}")


def add_device(command: argparse.ArgumentParser) -> None:
    """Add the option for the device that a command computes on."""
    command.add_argument(
        "--device", default="auto", metavar="NAME", help="device that computes: auto, cpu, cuda, cuda:1 or mps"
    )


def add_engine(command: argparse.ArgumentParser, default: str | None = "auto") -> None:
    """Add the options for the engine that computes a model, and the type it computes in.

    Without a default, the command takes PyTorch, or an export's own engine.
    """
    command.add_argument(
        "--backend",
        metavar="NAME",
        default=default,
        help="engine: torch, compile or openvino for weights, onnxruntime or openvino for ONNX files; auto: the "
        "fastest that is installed and needs no compiling" + ("" if default else "; without, torch for weights"),
    )
    command.add_argument(
        "--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="number type of weights and activations"
    )


def add_json(command: argparse.ArgumentParser, help: str) -> None:
    """Add the option for output that programs read; `help` says what is printed."""
    command.add_argument("--json", action="store_true", help=help)


def add_source(command: argparse.ArgumentParser) -> None:
    """Add the argument for trained weights."""
    command.add_argument("source", metavar="SOURCE", help="run directory, weight file, published name or hf:ORG/NAME")


def add_inputs(command: argparse.ArgumentParser) -> None:
    """Add the argument for images, as `data.sources.inputs.expand` takes them."""
    command.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="files, folders, globs, addresses (http, https), tables and shards, hf:ORG/NAME, or - for an image or a "
        "list of paths on stdin",
    )


def add_exclude(command: argparse.ArgumentParser) -> None:
    """Add the option for a list of images to leave out."""
    command.add_argument(
        "--exclude",
        type=Path,
        metavar="FILE",
        help="file that lists images to leave out: what `convnext check` writes, any table with a column path, or one "
        "path a line",
    )


def add_size(command: argparse.ArgumentParser) -> None:
    """Add the options for another image size or crop than the model was trained with."""
    command.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the images that a classifier sees, or short side of those that other models see, in pixels; "
        "without: the model's own",
    )
    command.add_argument(
        "--crop",
        type=float,
        metavar="SHARE",
        help="classifiers: share of the resized image's side that the centre crop keeps; 1: no crop, the whole image "
        "is warped to a square; without: the model's own",
    )


def add_set_option(
    command: argparse.ArgumentParser,
    help: str = "another value for an option of the recipe, by its name in config.json; may be given several times",
) -> None:
    """Add the option for values of a training by name, as `config.json` writes them (`set_options` reads it)."""
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=help)


def set_options(pairs: list[str], others: Container[str] = ()) -> dict[str, str]:
    """Values by name, of the KEY=VALUE pairs given by `--set`. `InputError` for a pair without `=`, and for the names
    of `others`, which the command takes by themselves."""
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--set takes KEY=VALUE, not '{pair}'")
        if (name := pair.partition("=")[0]) in others:
            raise InputError(f"--set takes options of a training, and {name} is the command's own: give it by itself")
    return dict(pair.split("=", 1) for pair in pairs)


def add_out(command: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    """Add the option for the folder that a command writes."""
    command.add_argument("--out", type=Path, required=required, metavar="FOLDER", help=help)
