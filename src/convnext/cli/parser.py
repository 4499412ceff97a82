"""All commands in one parser."""

from __future__ import annotations

from convnext import __version__
from convnext.cli.analyze import ANALYSES
from convnext.cli.benchmark import BENCHMARK
from convnext.cli.card import CARD
from convnext.cli.check import CHECK
from convnext.cli.command import Command, Parser
from convnext.cli.compare import COMPARE
from convnext.cli.completion import COMPLETION
from convnext.cli.convert import CONVERT
from convnext.cli.cross_validate import CROSS_VALIDATE
from convnext.cli.demo import DEMO
from convnext.cli.doctor import DOCTOR
from convnext.cli.embed import EMBED
from convnext.cli.evaluate import EVALUATE
from convnext.cli.export import EXPORT
from convnext.cli.index import INDEX_COMMAND
from convnext.cli.models import MODELS
from convnext.cli.pack import PACK
from convnext.cli.predict import PREDICT
from convnext.cli.push import PUSH
from convnext.cli.recipes import RECIPES_COMMAND
from convnext.cli.runs import RUNS
from convnext.cli.schema import SCHEMA
from convnext.cli.serve import SERVE
from convnext.cli.space import SPACE
from convnext.cli.train import TRAINING

COMMANDS: tuple[Command, ...] = (
    DEMO,
    MODELS,
    CHECK,
    *TRAINING,
    CROSS_VALIDATE,
    EVALUATE,
    PREDICT,
    EMBED,
    CONVERT,
    EXPORT,
    SERVE,
    BENCHMARK,
    CARD,
    PUSH,
    SPACE,
    PACK,
    INDEX_COMMAND,
    *ANALYSES,
    RUNS,
    COMPARE,
    RECIPES_COMMAND,
    SCHEMA,
    COMPLETION,
    DOCTOR,
)
GROUPS = {"train": ("train a model", "TASK"), "analyze": ("look into a model", "ANALYSIS")}
"""Commands of two words by the first: what they do, and what the second word is."""


def build_parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="convnext", description="ConvNeXt V1 and V2: train, evaluate, use.")
    top.add_argument("--version", action="version", version=f"convnext {__version__}")
    places = {"": top.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group not in places:
            help, word = GROUPS[group]
            parser = places[""].add_parser(group, help=help, description=help)
            places[group] = parser.add_subparsers(title="commands", metavar=word, required=True)
        parser = places[group].add_parser(
            name, help=command.help, description=command.help, add_help=not command.own_help
        )
        parser.set_defaults(execute=command.run, parser=parser)
        command.options(parser)
    return top
