"""`convnext completion`: the script by which a shell completes commands, options and their values."""

from __future__ import annotations

import argparse

from convnext.cli.command import Command, Parser


def _options(command: Parser) -> None:
    command.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell that is to complete")


def _run(args: argparse.Namespace) -> None:
    import shtab

    from convnext.cli.parser import build_parser

    parser = build_parser()
    offer_values(parser)
    print(shtab.complete(parser, args.shell))


def offer_values(parser: argparse.ArgumentParser) -> None:
    """Give every argument of a parser and its commands what shtab completes: choices, files or folders."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                offer_values(command)
        elif action.nargs != 0 and action.choices is None:
            if action.metavar in ("DATA", "SOURCE", "INPUT", "IMAGES", "FILE") or action.dest == "init":
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
            elif action.metavar in ("FOLDER", "RUN", "SHARDS"):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # as above
            else:
                action.choices = values_of_option(parser.prog, action) or None


def values_of_option(command: str, action: argparse.Action) -> list[str]:
    """The values of an option of a command that are known: names of recipes or models, or those that its help names."""
    from convnext.tasks.recipes import RECIPES, task_of_recipe
    from convnext.variants import list_models

    if action.dest in ("recipe", "name"):
        fitting = [name for name in RECIPES if command == f"convnext {task_of_recipe(name).command}"]
        return fitting or list(RECIPES)
    if action.dest == "model":
        return list_models()
    words = str(action.metavar).split("|")  # as in auto|ddp|fsdp, 1|3 and NUMBER|none
    return [word for word in words if len(words) > 1 and (word.islower() or word.isdigit())]


COMPLETION = Command("completion", "a script that completes commands, options and values", _options, _run)
