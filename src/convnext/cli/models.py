"""`convnext models`."""

from __future__ import annotations

import argparse
import dataclasses
import json

from convnext.cli.command import Command, Parser, add_json
from convnext.variants import VARIANTS


def _options(command: Parser) -> None:
    add_json(command, "one JSON list")


def _run(args: argparse.Namespace) -> None:
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


MODELS = Command("models", "the family and its published weights", _options, _run)
