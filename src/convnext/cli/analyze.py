"""`convnext analyze reconstruct`."""

from __future__ import annotations

import argparse

from convnext.cli.command import Command, Parser, add_device, add_json, add_out
from convnext.printing import complain, say, to_json


def _options(command: Parser) -> None:
    command.add_argument("source", metavar="SOURCE", help="pre-training run or weight file with its decoder")
    command.add_argument("inputs", metavar="IMAGES", nargs="+", help="files, folders or globs")
    add_out(command, "where the pictures go", required=True)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the masks")
    add_device(command)
    add_json(command, "one JSON object: files written, and lines on what failed")


def _run(args: argparse.Namespace) -> int:
    from convnext.analysis.reconstructions import reconstruct

    files, failures = reconstruct(args.source, args.inputs, args.out, device=args.device, seed=args.seed)
    for failure in failures:
        complain(failure)
    if args.json:
        print(to_json({"files": [str(file) for file in files], "left_out": [str(failure) for failure in failures]}))
    else:
        for file in files:
            say(file)
    return 1 if failures else 0


RECONSTRUCT = Command("analyze reconstruct", "draw what a pre-trained model makes of hidden patches", _options, _run)
