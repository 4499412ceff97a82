"""`convnext card`."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import Command, Parser
from convnext.printing import say


def _options(command: Parser) -> None:
    command.add_argument("run", type=Path, metavar="RUN", help="a run that has ended")
    command.add_argument("--no-speed", action="store_true", help="do not measure the model's speed on this machine")


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.card import rebuild_card

    say(rebuild_card(args.run, speed=not args.no_speed))


CARD = Command("card", "measure a run's speed, and write its model card anew", _options, _run)
