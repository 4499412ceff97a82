"""`convnext evaluate`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convnext.cli.command import (
    Command,
    Parser,
    add_device,
    add_engine,
    add_exclude,
    add_json,
    add_out,
    add_size,
    add_source,
    refuse_below,
)
from convnext.parsing import parse
from convnext.printing import quoted, say, to_json

PASSED = (
    "batch_size", "workers", "device", "backend", "precision", "image_size", "crop", "out", "classes", "flip",
    "groups", "costs", "calibrated", "calibrate", "format", "exclude",
)  # fmt: skip
"""Options that `evaluate` takes as they are."""


def _options(command: Parser) -> None:
    add_source(command)
    command.add_argument("data", metavar="DATA", help="labelled images, as the task's `train` takes them")
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        help="split of DATA to measure on; without: what DATA holds out, or was held out when SOURCE was trained on "
        "DATA; else all",
    )
    command.add_argument(
        "--format", metavar="NAME", help="format of the annotations, where DATA has several: coco, yolo, voc, ..."
    )
    add_exclude(command)
    command.add_argument("--batch-size", type=int, default=64, metavar="N", help="images that are measured together")
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes that load images")
    add_device(command)
    add_engine(command, None)
    add_size(command)
    add_out(
        command,
        "folder for tables and pictures: images.csv, a row an image, costliest.csv, and what the task has to show",
    )
    command.add_argument(
        "--classes",
        choices=["model", "data"],
        help="classifiers: which classes are compared, all of the model or those of DATA alone; without: those of DATA "
        "for heads of ImageNet-22K and 12K, else all",
    )
    command.add_argument(
        "--scales", metavar="S,...", help="segmenters: average over images at several scales, such as 0.75,1,1.25"
    )
    command.add_argument("--flip", action="store_true", help="segmenters: average over mirrored images too")
    command.add_argument(
        "--groups",
        type=Path,
        metavar="TABLE",
        help="measure by group too: CSV, TSV or Parquet with a column `path` and columns that divide the images",
    )
    command.add_argument(
        "--by",
        metavar="COLUMN,...",
        help="what groups are made by: columns of --groups, or folder, size, brightness, camera; each two are also "
        "paired; without: all columns of --groups",
    )
    command.add_argument(
        "--costs",
        type=Path,
        metavar="TABLE",
        help="classifiers: measure the decisions that cost least; CSV, a row a true class, a column a decision",
    )
    command.add_argument(
        "--calibrated", action="store_true", help="answer with the calibration that is stored with SOURCE"
    )
    command.add_argument(
        "--calibrate", action="store_true", help="fit a calibration to these images, and store it with SOURCE"
    )
    add_json(command, "one JSON object")


def _run(args: argparse.Namespace) -> None:
    from convnext.tasks.evaluate import evaluate

    refuse_below(args, batch_size=1, workers=0, image_size=1)
    how = {name: getattr(args, name) for name in PASSED}
    scales = None if args.scales is None else parse("scales", args.scales, tuple[float, ...])
    by = [name.strip() for name in args.by.split(",") if name.strip()] if args.by else None
    metrics = evaluate(args.source, args.data, args.split, **how, scales=scales, by=by)
    if os.environ.get("RANK", "0") != "0":  # the first process speaks for all
        return
    if args.json:
        print(to_json(metrics))
        return
    groups, gaps, metric, costliest = (metrics.pop(name, None) for name in ("groups", "gaps", "metric", "costliest"))
    for name, value in metrics.items():
        print(f"{name:<18}{value:.4f}" if isinstance(value, float) else f"{name:<18}{value}")
    if costliest:
        say(f"\ncost most ({args.out / 'costliest.csv'}):")
        for row in costliest:
            say(f"  {row['cost']:<10g}{row['path']}")
    if groups is not None:
        for line in _group_lines(groups, gaps, metric):
            say(line)


def _group_lines(groups: list[dict[str, Any]], gaps: list[dict[str, Any]], metric: str) -> Iterator[str]:
    """The most important metric of each group, with its interval, and the largest gap of each column."""
    for by in dict.fromkeys(group["by"] for group in groups):
        yield f"\n{by}"
        for group in groups:
            if group["by"] == by:
                low, high = group["intervals"].get(metric, (None, None))
                known = "too few images for an interval" if low is None else f"{low:.2f} to {high:.2f}"
                value = group["metrics"].get(metric)
                figure = "not measured" if value is None else f"{metric} {value:.2f}  ({known})"
                yield f"  {group['group']:<24} {group['images']:>6} images  {figure}"
        for gap in gaps:
            if gap["by"] == by:
                lowest, highest = quoted(gap["lowest"]), quoted(gap["highest"])
                ends = f"{gap['low']:.2f} to {gap['high']:.2f}"
                yield f"  largest gap: {lowest} is {gap['gap']:.2f} below {highest}  ({ends})"


EVALUATE = Command("evaluate", "measure a model on labelled images", _options, _run)
