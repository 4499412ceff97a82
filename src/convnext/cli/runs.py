"""`convnext runs`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.command import Command, Parser, add_json
from convnext.printing import say, to_json

if TYPE_CHECKING:
    from convnext.runs.summary import RunSummary

METRICS_SHOWN = 2
"""Metrics of a run that the table has room for."""


def _options(command: Parser) -> None:
    command.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="FOLDER",
        help="folder that holds runs; without: runs",
    )
    add_json(command, "one JSON list, with all metrics and options")


def _run(args: argparse.Namespace) -> None:
    from convnext.runs.summary import find_runs, summarise_run

    found = [summarise_run(path) for path in find_runs(args.folder)]
    if args.json:
        print(to_json([{**vars(each), "run": str(each.run)} for each in found]))
        return
    rows = [("run", "task", "model", "data", "recipe", "epochs", "hours", "state", "metrics"), *map(_cells, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(run: RunSummary) -> tuple[str, ...]:
    figures = [f"{name} {value:.4g}" for name, value in run.metrics.items() if isinstance(value, int | float)]
    return (
        str(run.run),
        run.task or "",
        run.model,
        run.data,
        run.recipe,
        "/".join(str(count) for count in run.epochs if count is not None),
        f"{run.hours:.2f}",
        run.state,
        ", ".join(figures[:METRICS_SHOWN]),
    )


RUNS = Command("runs", "list the runs in a folder, side by side", _options, _run)
