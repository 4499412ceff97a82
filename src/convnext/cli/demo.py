"""`convnext demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import Command, Parser


def _options(command: Parser) -> None:
    command.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="RUN", help="the run directory to write"
    )


def _run(args: argparse.Namespace) -> None:
    from convnext.cli.demo_run import run_demo

    run_demo(args.out)


DEMO = Command("demo", "pre-train, train, evaluate and predict on embedded data, in minutes, on a CPU", _options, _run)
