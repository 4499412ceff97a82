"""`convnext schema`: the options of every command and recipe as JSON Schema, for editors and programs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from convnext.cli.command import Command, Parser
from convnext.config import TrainConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _options(command: Parser) -> None:
    command.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="recipe whose values are the defaults; without: the options of every command",
    )
    command.add_argument(
        "--model", metavar="NAME", help="model that the values are for; without: the first that the recipe takes"
    )


def _run(args: argparse.Namespace) -> None:
    if args.name is not None:
        from convnext.tasks.recipes import build_config, models_of, task_of_recipe

        kind = task_of_recipe(args.name).config
        config = build_config(args.name, args.model or models_of(args.name)[0], kind)
        print(json.dumps(schema_of_config(config), indent=2))
        return
    from convnext.cli.parser import COMMANDS

    found = {}
    for command in COMMANDS:
        parser = Parser(prog=f"convnext {command.name}", add_help=not command.own_help)
        command.options(parser)
        found[command.name] = {"description": command.help, **schema_of_parser(parser)}
    print(json.dumps({"$schema": DIALECT, "title": "convnext", "$defs": found}, indent=2))


def schema_of_config(config: TrainConfig) -> dict[str, Any]:
    """JSON Schema of a run's `config.json`, with a config's values as defaults."""
    hints = config.types()
    properties = {
        field.name: {
            **schema_of_type(hints[field.name]),
            "description": field.metadata["help"],
            "default": getattr(config, field.name),
        }
        for field in dataclasses.fields(config)
    }
    return {
        "$schema": DIALECT,
        "title": config.recipe,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def schema_of_type(kind: Any) -> dict[str, Any]:
    """The values of a field's type."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of_type(each) for each in args]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "prefixItems": [schema_of_type(each) for each in args], "items": False}
    names = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", type(None): "null"}
    return {"type": names[kind]}


def schema_of_parser(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The arguments of a command by name: positional ones as they are called, options without their dashes."""
    properties, required = {}, []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest in ("help", "help_all"):
            continue
        name = action.option_strings[-1].lstrip("-") if action.option_strings else action.dest
        properties[name] = {**_values(action), "description": (action.help or "").replace("%%", "%")}
        if action.default not in (None, argparse.SUPPRESS):
            properties[name]["default"] = str(action.default) if isinstance(action.default, Path) else action.default
        if action.required:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _values(action: argparse.Action) -> dict[str, Any]:
    if action.choices is not None:
        values: dict[str, Any] = {"enum": list(action.choices)}
    elif action.nargs == 0:
        values = {"type": "boolean"}
    else:
        kind = action.type if isinstance(action.type, type) else str
        values = schema_of_type(kind)
    if action.nargs == "?" and action.const is not None:
        return {"anyOf": [{"type": "boolean"}, values]}
    return {"type": "array", "items": values} if action.nargs == "+" or action.default == [] else values


SCHEMA = Command("schema", "the options of every command, or of a recipe, as JSON Schema", _options, _run)
