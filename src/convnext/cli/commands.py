"""Bodies of the commands. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
from typing import Any

from convnext.config import RENAMED, TrainConfig
from convnext.errors import InputError
from convnext.parsing import parse
from convnext.printing import complain, say, to_json
from convnext.tasks.definition import TaskDefinition
from convnext.variants import VARIANTS

log = logging.getLogger("convnext")


def given_options(args: argparse.Namespace, config: type[TrainConfig]) -> dict[str, Any]:
    """The config fields given on the command line, still as text."""
    names = {field.name for field in dataclasses.fields(config)} - {"recipe", "data"} | RENAMED.keys()
    given = {name: value for name, value in vars(args).items() if name in names}
    return {**given, **set_options(args.set)}


def set_options(pairs: list[str]) -> dict[str, str]:
    """Values by name, of the KEY=VALUE pairs given by `--set`. `InputError` for a pair without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--set takes KEY=VALUE, not '{pair}'")
    return dict(pair.split("=", 1) for pair in pairs)


def run_demo_command(args: argparse.Namespace) -> None:
    from convnext.cli.demo import run_demo

    run_demo(args.out)


def run_models(args: argparse.Namespace) -> None:
    from convnext.weights.zoo import list_weights

    rows = [dataclasses.asdict(variant) for variant in VARIANTS.values()]
    published = {name: [w.name for w in list_weights() if w.variant == name] for name in VARIANTS}
    if args.json:
        print(json.dumps([{**row, "weights": published[row["name"]]} for row in rows]))
        return
    print(f"{'model':<18}{'params':>9}{'MACs @224':>11}{'top-1 @224':>12}  depths, widths")
    for v in VARIANTS.values():
        size = f"{v.parameters / 1e6:>7.1f} M{v.macs / 1e9:>9.2f} G{v.top1:>10.1f} %"
        print(f"{v.name:<18}{size}  {'-'.join(map(str, v.depths))}, {'-'.join(map(str, v.dims))}")
    print("\npublished weights, for --init, evaluate and predict (V2: CC-BY-NC 4.0, V1: MIT):")
    for names in published.values():
        if names:
            print("  " + "  ".join(names))


def run_reconstruct(args: argparse.Namespace) -> int:
    from convnext.analysis.reconstructions import reconstruct

    files, failures = reconstruct(args.source, args.inputs, args.out, device=args.device, seed=args.seed)
    for failure in failures:
        complain(failure)
    for file in files:
        say(file)
    return 1 if failures else 0


def run_train(args: argparse.Namespace) -> int | None:
    from convnext.api import train
    from convnext.runs.directory import Run

    task: TaskDefinition = args.task
    given = given_options(args, task.config)
    if getattr(args, "check", False):
        summary, faults = task.check(task.config().override({**given, "data": args.data}))
        say("\n".join([*summary, *(f"left out {line}" for line in faults)]))
        return 1 if faults else 0
    if args.out is None:
        raise InputError("--out says where the run goes")
    how = {"recipe": args.recipe, "resume": args.resume, "overwrite": args.overwrite}
    metrics = train(task, args.data, out=args.out, **how, **given)
    if not metrics:  # another process speaks for all
        return None
    run = Run(args.out)
    if run.unreadable.is_file():
        count = len(run.unreadable.read_bytes().splitlines())
        log.warning("%d training images could not be read: %s", count, run.unreadable)
    say(task.after_training(task.config.from_dict(run.read_config()), metrics, args.data, args.out))
    return None


def run_evaluate(args: argparse.Namespace) -> None:
    from convnext.tasks.evaluate import evaluate

    names = ("batch_size", "workers", "device", "precision", "image_size", "crop", "out", "flip")
    how = {name: getattr(args, name) for name in names}
    for name in ("batch_size", "image_size"):
        if how[name] is not None and how[name] < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {how[name]}")
    scales = None if args.scales is None else parse("scales", args.scales, tuple[float, ...])
    if scales and not min(scales) > 0:
        raise InputError(f"--scales takes positive numbers, not '{args.scales}'")
    metrics = evaluate(args.source, args.data, args.split, **how, scales=scales)
    if os.environ.get("RANK", "0") != "0":  # the first process speaks for all
        return
    if args.json:
        print(to_json(metrics))
    else:
        for name, value in metrics.items():
            print(f"{name:<16}{value:.4f}" if isinstance(value, float) else f"{name:<16}{value}")


def run_predict(args: argparse.Namespace) -> int:
    from convnext.cli.predict import predict_inputs

    return predict_inputs(
        args.source,
        args.inputs,
        top_k=args.top_k,
        device=args.device,
        as_json=args.json,
        out=args.out,
        threshold=args.threshold,
        tile=args.tile,
        image_size=args.image_size,
        crop=args.crop,
    )


def run_pack(args: argparse.Namespace) -> int:
    from convnext.data.shards.pack import count_images, pack_shards

    shards, failures = pack_shards(
        args.data,
        args.out,
        shard_bytes=args.shard_mb * 10**6,
        short_side=args.short_side,
        labels=not args.no_labels,
        multi_label=args.multi_label,
        val_fraction=args.val_fraction,
        seed=args.seed,
    )
    for failure in failures:
        complain(failure)
    command = "pretrain" if args.no_labels else "train classify"
    print(f"{args.out}: {count_images(shards)} images in {len(shards)} shards; next:")
    print(f"  convnext {command} {args.out} --out RUN")
    return 1 if failures else 0


def run_index(args: argparse.Namespace) -> None:
    from convnext.data.shards.pack import count_images, index_shards

    shards = index_shards(args.folder)
    say(f"{args.folder}: {count_images(shards)} images in {len(shards)} shards")


def run_recipes(args: argparse.Namespace) -> None:
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


def run_doctor(args: argparse.Namespace) -> None:
    from convnext.cli.doctor import examine_machine

    facts = examine_machine()
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:<22}{value}")
