"""`convnext compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import Command, Parser, add_json
from convnext.printing import say, to_json


def _options(command: Parser) -> None:
    command.add_argument("first", type=Path, metavar="RUN", help="a run directory")
    command.add_argument("second", type=Path, metavar="RUN", help="another run directory")
    add_json(command, "one JSON object: options and metrics by name, with both values")


def _run(args: argparse.Namespace) -> None:
    from convnext.runs.summary import compare_runs

    found = compare_runs(args.first, args.second)
    if args.json:
        print(to_json(found))
        return
    rows = [("", str(args.first), str(args.second))]
    for title, values in found.items():
        rows += [(f"{title}:", "", "")]
        rows += [(f"  {name}", _text(one), _text(other)) for name, (one, other) in values.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


COMPARE = Command("compare", "say what two runs differ in, options and metrics", _options, _run)
