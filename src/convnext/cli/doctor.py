"""`convnext doctor`."""

from __future__ import annotations

import argparse
import json

from convnext.cli.command import Command, Parser, add_json


def _options(command: Parser) -> None:
    add_json(command, "one JSON object")


def _run(args: argparse.Namespace) -> None:
    from convnext.cli.doctor_facts import examine_machine

    facts = examine_machine()
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:<22}{value}")


DOCTOR = Command("doctor", "what this machine has, and which fast paths it takes", _options, _run)
