"""`convnext models`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnext.cli.command import Command, Parser, add_json, refuse_below
from convnext.errors import InputError, nearest
from convnext.printing import flag_of, say, to_json
from convnext.variants import find_variant, list_models

if TYPE_CHECKING:
    from convnext.deploy.sizes import SizeRow
    from convnext.weights.published import PublishedWeights


def _options(command: Parser) -> None:
    command.add_argument(
        "--weights", action="store_true", help="list the published weights: what each is, its licence and its figures"
    )
    command.add_argument("--licence", metavar="NAME", help="only weights of this licence, such as MIT")
    command.add_argument("--task", metavar="NAME", help="only weights for this task: classify, embed, pretrain, ...")
    command.add_argument(
        "--measure",
        nargs="*",
        metavar="NAME",
        help="measure speed and memory of these sizes on this machine, names or patterns; without a name, of all of V2",
    )
    command.add_argument("--image-size", type=int, metavar="PIXELS", help="with --measure: side of the images [224]")
    command.add_argument(
        "--precision",
        choices=["fp32", "bf16", "fp16"],
        help="with --measure: number type of weights and activations [fp32]",
    )
    command.add_argument(
        "--threads", type=int, metavar="N", help="with --measure: CPU threads; without: all processors"
    )
    command.add_argument(
        "--device",
        metavar="NAME",
        help="with --measure: device that computes: cpu, cuda, cuda:1 or mps; without: the best",
    )
    add_json(command, "one JSON list")


COLUMNS = {
    "latency_ms": ("ms at 1", ".1f"),
    "images_per_s": ("images/s at 16", ".1f"),
    "memory_mb": ("MB at 1", ".0f"),
    "batch_memory_mb": ("MB at 16", ".0f"),
}
"""Measured columns of a size: title and form of a number, by a row's field."""


def _run(args: argparse.Namespace) -> None:
    from convnext.weights.zoo import list_weights

    refuse_below(args, image_size=1, threads=1)
    how = {name: getattr(args, name) for name in ("image_size", "precision", "threads", "device")}
    given = {name: value for name, value in how.items() if value is not None}
    if args.measure is not None:
        for name in ("weights", "licence", "task"):
            if getattr(args, name):
                raise InputError(f"--{name} lists published weights, and --measure measures sizes: take one of them")
        _print_measured(args.measure, given, as_json=args.json)
        return
    if given:
        raise InputError(f"{flag_of(next(iter(given)))} is for --measure")
    if args.weights or args.licence is not None or args.task is not None:
        _print_weights(_chosen(list_weights(), args.licence, args.task), as_json=args.json)
        return
    members = [find_variant(name) for name in list_models()]
    rows = [dataclasses.asdict(variant) for variant in members]
    published = {name: [w.name for w in list_weights() if w.variant == name] for name in list_models()}
    if args.json:
        print(json.dumps([{**row, "weights": published[row["name"]]} for row in rows]))
        return
    print(f"{'model':<24}{'params':>9}{'MACs @224':>11}{'top-1 @224':>12}  depths, widths")
    for v in members:
        top1 = "" if v.top1 is None else f"{v.top1:.1f} %"
        size = f"{v.parameters / 1e6:>7.1f} M{v.macs / 1e9:>9.2f} G{top1:>12}"
        print(f"{v.name:<24}{size}  {'-'.join(map(str, v.depths))}, {'-'.join(map(str, v.dims))}")
    print("\npublished weights, for --init, evaluate and predict (licences and figures: convnext models --weights):")
    for names in published.values():
        if names:
            print("  " + "  ".join(names))


def _print_measured(names: Sequence[str], how: dict[str, Any], *, as_json: bool) -> None:
    from convnext.deploy.sizes import size_rows

    rows: list[dict[str, Any]] = []
    for row in size_rows(names, **how):
        if not as_json:
            if not rows:
                where = f"{row.threads} threads of {row.hardware}" if row.device == "cpu" else row.hardware
                say(f"{row.image_size} pixels, {row.precision}, {where}\n")
                titles = "".join(f"  {title:>8}" for title, _ in COLUMNS.values())
                say(f"{'model':<24}{'params':>9}{'MACs':>11}{titles}")
            say(_measured_line(row))
        rows.append(dataclasses.asdict(row))
    if as_json:
        print(to_json(rows))


def _measured_line(row: SizeRow) -> str:
    line = f"{row.model:<24}{row.parameters / 1e6:>7.1f} M{row.macs / 1e9:>9.2f} G"
    if row.latency_ms is not None:
        for field, (title, form) in COLUMNS.items():
            number = getattr(row, field)
            line += f"  {'-' if number is None else format(number, form):>{max(8, len(title))}}"
    return line if row.error is None else f"{line}  {row.error}"


def _chosen(entries: Sequence[PublishedWeights], licence: str | None, task: str | None) -> list[PublishedWeights]:
    """Weights of a licence and a task, in any case. `InputError` for one that none has."""
    found = list(entries)
    for field, wanted in (("licence", licence), ("task", task)):
        if wanted is not None:
            names = sorted({getattr(entry, field) for entry in entries})
            found = [entry for entry in found if getattr(entry, field).lower() == wanted.lower()]
            if wanted.lower() not in map(str.lower, names):
                raise InputError(f"no published weights of {field} '{wanted}'; {nearest(wanted, names)}")
    return found


def _print_weights(entries: Sequence[PublishedWeights], *, as_json: bool) -> None:
    from convnext.weights.licences import restriction_of

    asked = {entry.licence: restriction_of(entry.licence) for entry in entries}
    if as_json:
        print(json.dumps([{**dataclasses.asdict(each), "restriction": asked[each.licence]} for each in entries]))
        return
    rows = [("name", "task", "pixels", "answer", "licence", "by", "figures"), *map(_cells, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    restricted = [f"{licence}: {words}" for licence, words in asked.items() if words]
    if restricted:
        print("\nlicences that hold for everything made from the weights:", *restricted, sep="\n  ")


def _cells(entry: PublishedWeights) -> tuple[str, ...]:
    answer = f"{entry.num_classes} classes" if entry.num_classes else f"width {entry.width}" if entry.width else ""
    figures = ", ".join(f"{name} {value:g}" for name, value in entry.figures.items())
    return (entry.name, entry.task, str(entry.image_size), answer, entry.licence, entry.source, figures)


MODELS = Command("models", "the family and its published weights", _options, _run)
