"""The command line. Parsing imports nothing heavy; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from convnext import __version__
from convnext.config import ClassifyConfig, PretrainConfig, TrainConfig
from convnext.errors import InputError, Stopped
from convnext.variants import VARIANTS


class Parser(argparse.ArgumentParser):
    """Bad arguments get one line. Options are not abbreviated: scripts outlive the abbreviation's being unique."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 where some images could not be read, 2 for bad input."""
    return execute(parser().parse_args(argv))


def execute(args: argparse.Namespace) -> int:
    """Run a command whose arguments are parsed."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("convnext").setLevel(logging.INFO)
    try:
        if getattr(args, "slurm", None) is not None:
            return submit(args)
        return args.command(args) or 0
    except InputError as error:
        print(f"convnext: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"convnext: {stop}", file=sys.stderr)
        return 128 + stop.signal
    except BrokenPipeError:  # `convnext predict ... | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("convnext: interrupted", file=sys.stderr)
        return 130


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="convnext", description="ConvNeXt V1 and V2: train, evaluate, use.")
    top.add_argument("--version", action="version", version=f"convnext {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(to: Any, name: str, function: Any, help: str) -> Parser:
        command = to.add_parser(name, help=help, description=help)
        command.set_defaults(command=function)
        return command

    command = add(commands, "demo", demo, "the whole story on embedded data, in minutes, on a CPU")
    command.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="RUN", help="default: runs/demo")

    command = add(commands, "models", models, "the family and its published weights")
    command.add_argument("--json", action="store_true", help="one JSON list")

    command = add(commands, "pretrain", pretrain, "pre-train a model on images without labels (FCMAE)")
    command.add_argument("data", metavar="DATA", help="folder of images, flat or nested, shards, or 'digits'")
    add_run_options(command, "default: fcmae_small_data up to 20,000 images, else fcmae")
    add_config_options(command, PretrainConfig)

    train = commands.add_parser("train", help="train a model", description="Train a model.")
    tasks = train.add_subparsers(title="tasks", metavar="TASK", required=True)
    command = add(tasks, "classify", train_classify, "train an image classifier")
    command.add_argument(
        "data", metavar="DATA", help="folder of class folders, CSV or Parquet table, shards, or 'digits'"
    )
    add_run_options(command, "default: small_data up to 20,000 images, else the paper's")
    add_config_options(command, ClassifyConfig)

    command = add(commands, "evaluate", evaluate, "measure a model on labelled images")
    command.add_argument("source", metavar="SOURCE", help="run directory, weight file, published name or hub id")
    command.add_argument("data", metavar="DATA", help="what `train` takes")
    command.add_argument("--split", choices=["val", "train", "all"], default="val", help="default: val")
    command.add_argument("--batch-size", type=int, default=64, help="default: 64")
    command.add_argument("--workers", type=int, default=2, help="processes that load images; default: 2")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    command.add_argument("--json", action="store_true", help="one JSON object")

    command = add(commands, "predict", predict, "label images")
    command.add_argument("source", metavar="SOURCE", help="run directory, weight file, published name or hub id")
    command.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="files, folders, globs, or - for an image or a list of paths on stdin",
    )
    command.add_argument("--top-k", type=int, default=5, help="labels an image; default: 5")
    command.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, mps")
    command.add_argument(
        "--json", action="store_true", help="a line an image: the labels of a single file, else image and labels"
    )

    command = add(
        commands, "pack", pack, "pack images into tar shards, which train, pretrain and evaluate take as data"
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
    command.add_argument("--seed", type=int, default=0, help="of the images' order; default: 0")

    command = add(commands, "index", index, "let tar files that others packed (WebDataset) be taken as data")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of tar files; the index goes there")

    analyze = commands.add_parser("analyze", help="look into a model", description="Look into a model.")
    analyses = analyze.add_subparsers(title="analyses", metavar="ANALYSIS", required=True)
    command = add(analyses, "reconstruct", reconstruct, "draw what a pre-trained model makes of hidden patches")
    command.add_argument("source", metavar="SOURCE", help="pre-training run or weight file with its decoder")
    command.add_argument("inputs", metavar="IMAGES", nargs="+", help="files, folders or globs")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
    command.add_argument("--seed", type=int, default=0, help="of the masks; default: 0")
    command.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, mps")

    command = add(commands, "recipes", recipes, "the published experiments, and all values of one")
    command.add_argument("name", metavar="NAME", nargs="?", help="a recipe, to see its whole config")
    command.add_argument("--model", help="default: the first model the recipe takes")
    add_set_option(command)
    command.add_argument("--json", action="store_true", help="one JSON object or list")

    command = add(commands, "doctor", doctor, "what this machine has, and which fast paths it takes")
    command.add_argument("--json", action="store_true", help="one JSON object")
    return top


def add_run_options(command: argparse.ArgumentParser, recipe: str) -> None:
    """What every training command takes beside its recipe's values."""
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run directory to write")
    command.add_argument("--recipe", help=f"a name of `convnext recipes`; {recipe}")
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


def add_set_option(command: argparse.ArgumentParser) -> None:
    """Recipe values by name, as `config.json` writes them."""
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a recipe value by its name, as often as needed"
    )


def add_config_options(command: argparse.ArgumentParser, config: type[TrainConfig]) -> None:
    """A flag for each field; none has a default here, for the recipe gives it."""
    group = command.add_argument_group("recipe values", "what the recipe says, unless given here")
    for field in dataclasses.fields(config):
        if field.name not in ("recipe", "data"):
            flag = group.add_argument(
                f"--{field.name.replace('_', '-')}",
                metavar="",
                default=argparse.SUPPRESS,
                help=field.metadata["help"].replace("%", "%%"),
            )
            if field.type == "bool":  # may stand alone
                flag.nargs, flag.const = "?", "true"


def given_options(args: argparse.Namespace, config: type[TrainConfig]) -> dict[str, Any]:
    """The config fields given on the command line, still as text."""
    names = {field.name for field in dataclasses.fields(config)} - {"recipe", "data"}
    given = {name: value for name, value in vars(args).items() if name in names}
    return {**given, **set_options(args.set)}


def set_options(pairs: list[str]) -> dict[str, str]:
    """What `--set` gave. `InputError` for one without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--set takes KEY=VALUE, not '{pair}'")
    return dict(pair.split("=", 1) for pair in pairs)


def submit(args: argparse.Namespace) -> int:
    """Let SLURM run the command."""
    import convnext.cli  # by this name it is found there, whatever this process was started by
    from convnext import slurm

    args.command = getattr(convnext.cli, args.command.__name__)
    job, logs = slurm.submit(convnext.cli.execute, args)
    print(f"job {job}: its output goes to {logs}/")
    return 0


def demo(args: argparse.Namespace) -> None:
    from convnext.demo import run_demo

    run_demo(args.out)


def models(args: argparse.Namespace) -> None:
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


def pretrain(args: argparse.Namespace) -> None:
    from convnext.pretrain import build_task
    from convnext.run import Run
    from convnext.train.trainer import launch

    given = given_options(args, PretrainConfig)
    metrics = launch(
        build_task, args.data, args.out, given, recipe=args.recipe, resume=args.resume, overwrite=args.overwrite
    )
    if not metrics:  # the first process speaks for all
        return
    config = PretrainConfig.from_dict(Run(args.out).read_config())
    figures = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"{figures}\n{args.out}: curves and reconstructions are there; next:")
    print(f"  {config.follow_up(args.out)}")
    print(f"  convnext analyze reconstruct {args.out} IMAGES --out FOLDER")


def reconstruct(args: argparse.Namespace) -> int:
    from convnext.pretrain import reconstruct

    files, failures = reconstruct(args.source, args.inputs, args.out, device=args.device, seed=args.seed)
    for failure in failures:
        print(f"convnext: {failure}", file=sys.stderr)
    for file in files:
        print(file)
    return 1 if failures else 0


def train_classify(args: argparse.Namespace) -> None:
    from convnext.classify import build_task
    from convnext.train.trainer import launch

    given = given_options(args, ClassifyConfig)
    metrics = launch(
        build_task, args.data, args.out, given, recipe=args.recipe, resume=args.resume, overwrite=args.overwrite
    )
    if not metrics:  # the first process speaks for all
        return
    figures = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"{figures}\n{args.out}: curves, confusion matrix and mistakes are there; next:")
    print(f"  convnext evaluate {args.out} {args.data}\n  convnext predict {args.out} IMAGE")


def evaluate(args: argparse.Namespace) -> None:
    from convnext.classify import evaluate_source

    metrics = evaluate_source(
        args.source, args.data, args.split, batch_size=args.batch_size, workers=args.workers, device=args.device
    )
    if os.environ.get("RANK", "0") != "0":  # the first process speaks for all
        return
    if args.json:
        print(json.dumps(metrics))
    else:
        for name, value in metrics.items():
            print(f"{name:<12}{value:.4f}" if isinstance(value, float) else f"{name:<12}{value}")


def predict(args: argparse.Namespace) -> int:
    from convnext.deploy.batch import predict_inputs

    return predict_inputs(args.source, args.inputs, top_k=args.top_k, device=args.device, as_json=args.json)


def pack(args: argparse.Namespace) -> int:
    from convnext.data.pack import count, pack

    shards, failures = pack(
        args.data,
        args.out,
        shard_bytes=args.shard_mb * 10**6,
        labels=not args.no_labels,
        multi_label=args.multi_label,
        val_fraction=args.val_fraction,
        seed=args.seed,
    )
    for failure in failures:
        print(f"convnext: {failure}", file=sys.stderr)
    command = "pretrain" if args.no_labels else "train classify"
    print(
        f"{args.out}: {count(shards)} images in {len(shards)} shards; next:\n  convnext {command} {args.out} --out RUN"
    )
    return 1 if failures else 0


def index(args: argparse.Namespace) -> None:
    from convnext.data.pack import count, index

    shards = index(args.folder)
    print(f"{args.folder}: {count(shards)} images in {len(shards)} shards")


def recipes(args: argparse.Namespace) -> None:
    import inspect

    from convnext.recipes import RECIPES, build_config, command_of, find_recipe, kind_of, models_of

    if args.name is None:
        about = {name: inspect.getdoc(recipe) or "" for name, recipe in RECIPES.items()}
        if args.json:
            print(json.dumps([{"name": name, "models": models_of(name), "about": about[name]} for name in RECIPES]))
            return
        for name in RECIPES:
            print(f"{name:<21}{command_of(name):<25}{about[name].splitlines()[0]}")
        print("\nthe whole config of one: convnext recipes NAME [--model MODEL] [--set KEY=VALUE]")
        return
    recipe = find_recipe(args.name)
    config = build_config(args.name, args.model or models_of(args.name)[0], kind_of(args.name))
    config = config.override(set_options(args.set))
    if not args.json:
        print(f"{inspect.getdoc(recipe)}\n")
    print(json.dumps(config.to_dict(), indent=2))


def doctor(args: argparse.Namespace) -> None:
    from convnext.doctor import examine

    facts = examine()
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:<22}{value}")


if __name__ == "__main__":
    sys.exit(main())
