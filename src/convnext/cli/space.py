"""`convnext space`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from convnext.cli.command import Command, Parser, add_json, add_out
from convnext.printing import complain, say, say_sizes, to_json


def _options(command: Parser) -> None:
    command.add_argument("folder", type=Path, metavar="RUN", help="a run that has ended")
    add_out(command, "a new or empty folder to write", required=True)
    command.add_argument(
        "--samples",
        type=Path,
        metavar="FOLDER",
        help="images that the page offers to everybody; without: none",
    )
    command.add_argument("--title", metavar="TEXT", help="title of the Space; without: the run's name")
    command.add_argument(
        "--model", metavar="ORG/NAME", help="the run's repository on the Hub, which the Space then names"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a folder that this command wrote")
    add_json(command, "one JSON object: folder, files with sizes, and notes")


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.space.folder import write_space

    how = {"samples": args.samples, "title": args.title, "model": args.model, "overwrite": args.overwrite}
    done = write_space(args.folder, args.out, **how)
    for note in done.notes:
        complain(note)
    if args.json:
        print(to_json({**done._asdict(), "folder": str(done.folder)}))
        return
    say(f"{done.folder}: a Space that serves {args.folder}")
    say_sizes(done.files)
    say(f"  hf upload ORG/NAME {shlex.quote(str(done.folder))} --repo-type space")


SPACE = Command("space", "write a demo of a run for the Hugging Face Hub, with a page to try it on", _options, _run)
