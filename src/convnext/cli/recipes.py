"""`convnext recipes`."""

from __future__ import annotations

import argparse
import json

from convnext.cli.command import Command, Parser, add_json, add_set_option, set_options


def _options(command: Parser) -> None:
    command.add_argument(
        "name", metavar="NAME", nargs="?", help="recipe whose values are printed; without: a list of all recipes"
    )
    command.add_argument(
        "--model", metavar="NAME", help="model that the values are for; without: the first that the recipe takes"
    )
    add_set_option(command)
    add_json(command, "one JSON object or list")


def _run(args: argparse.Namespace) -> None:
    import inspect

    from convnext.tasks.recipes import RECIPES, build_config, find_recipe, models_of, task_of_recipe

    if args.name is None:
        about = {name: inspect.getdoc(recipe) or "" for name, recipe in RECIPES.items()}
        if args.json:
            print(json.dumps([{"name": name, "models": models_of(name), "about": about[name]} for name in RECIPES]))
            return
        for name in RECIPES:
            print(f"{name:<28}{f'convnext {task_of_recipe(name).command}':<25}{about[name].splitlines()[0]}")
        print("\nthe whole config of one: convnext recipes NAME [--model MODEL] [--set KEY=VALUE]")
        return
    recipe = find_recipe(args.name)
    config = build_config(args.name, args.model or models_of(args.name)[0], task_of_recipe(args.name).config)
    config = config.override(set_options(args.set))
    if not args.json:
        print(f"{inspect.getdoc(recipe)}\n")
    print(json.dumps(config.to_dict(), indent=2))


RECIPES_COMMAND = Command("recipes", "the published experiments, and all values of one", _options, _run)
