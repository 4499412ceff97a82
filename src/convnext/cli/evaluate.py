"""`convnext evaluate`."""

from __future__ import annotations

import argparse
import os

from convnext.cli.command import Command, Parser, add_device, add_engine, add_json, add_out, add_size, add_source
from convnext.errors import InputError
from convnext.parsing import parse
from convnext.printing import to_json


def _options(command: Parser) -> None:
    add_source(command)
    command.add_argument("data", metavar="DATA", help="what `train` takes")
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        help="without: what DATA holds out, or was held out when SOURCE was trained on DATA; else all",
    )
    command.add_argument("--batch-size", type=int, default=64, metavar="N", help="images that are measured together")
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes that load images")
    add_device(command)
    add_engine(command, None)
    add_size(command)
    add_out(command, "write images.csv there, a row an image; of detectors objects.csv too")
    command.add_argument(
        "--classes",
        choices=["model", "data"],
        help="classifiers: which classes are compared, all of the model or those of DATA alone; without: those of DATA "
        "for heads of ImageNet-22K and 12K, else all",
    )
    command.add_argument("--scales", metavar="S,...", help="segmenters: see images at several scales: 0.75,1,1.25")
    command.add_argument("--flip", action="store_true", help="segmenters: see them mirrored too")
    add_json(command, "one JSON object")


def _run(args: argparse.Namespace) -> None:
    from convnext.tasks.evaluate import evaluate

    names = ("batch_size", "workers", "device", "backend", "precision", "image_size", "crop", "out", "classes", "flip")
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


EVALUATE = Command("evaluate", "measure a model on labelled images", _options, _run)
