"""`convnext models`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convnext.cli.command import Command, Parser, add_json
from convnext.errors import InputError, nearest
from convnext.variants import VARIANTS

if TYPE_CHECKING:
    from convnext.weights.published import PublishedWeights


def _options(command: Parser) -> None:
    command.add_argument(
        "--weights", action="store_true", help="list the published weights: what each is, its licence and its figures"
    )
    command.add_argument("--licence", metavar="NAME", help="only weights of this licence, such as MIT")
    command.add_argument("--task", metavar="NAME", help="only weights for this task: classify, embed, pretrain, ...")
    add_json(command, "one JSON list")


def _run(args: argparse.Namespace) -> None:
    from convnext.weights.zoo import list_weights

    if args.weights or args.licence is not None or args.task is not None:
        _print_weights(_chosen(list_weights(), args.licence, args.task), as_json=args.json)
        return
    rows = [dataclasses.asdict(variant) for variant in VARIANTS.values()]
    published = {name: [w.name for w in list_weights() if w.variant == name] for name in VARIANTS}
    if args.json:
        print(json.dumps([{**row, "weights": published[row["name"]]} for row in rows]))
        return
    print(f"{'model':<24}{'params':>9}{'MACs @224':>11}{'top-1 @224':>12}  depths, widths")
    for v in VARIANTS.values():
        top1 = "" if v.top1 is None else f"{v.top1:.1f} %"
        size = f"{v.parameters / 1e6:>7.1f} M{v.macs / 1e9:>9.2f} G{top1:>12}"
        print(f"{v.name:<24}{size}  {'-'.join(map(str, v.depths))}, {'-'.join(map(str, v.dims))}")
    print("\npublished weights, for --init, evaluate and predict (licences and figures: convnext models --weights):")
    for names in published.values():
        if names:
            print("  " + "  ".join(names))


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
