"""`convnext push`."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import Command, Parser, add_json, add_out
from convnext.printing import complain, say, say_sizes, to_json

OPENED_BY = {
    "hf": 'transformers.pipeline("image-classification", model="{}")',
    "timm": 'timm.create_model("hf-hub:{}", pretrained=True)',
}
"""Call by which the library of a layout opens a repository."""


def _options(command: Parser) -> None:
    command.add_argument("folder", type=Path, metavar="RUN", help="a run that has ended")
    command.add_argument(
        "repository", metavar="ORG/NAME", help="repository of models on the Hub, made if it does not exist"
    )
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--dry-run", action="store_true", help="write the folder, upload nothing")
    add_out(command, "keep the files there; without: with --dry-run in RUN/hub, else nowhere")
    command.add_argument(
        "--layout",
        choices=["hf", "timm"],
        help="library that opens a classifier: hf (transformers) or timm; without: the first that can",
    )
    command.add_argument(
        "--no-galleries", action="store_true", help="leave out the card's pictures that show images of the data"
    )
    add_json(command, "one JSON object: repository, url, commit, layout, folder, files with sizes, and notes")


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.push.upload import push

    how = {"private": args.private, "layout": args.layout, "out": args.out, "dry_run": args.dry_run}
    done = push(args.folder, args.repository, **how, galleries=not args.no_galleries)
    for note in done.notes:
        complain(note)
    if args.json:
        print(to_json({**done._asdict(), "folder": done.folder and str(done.folder)}))
        return
    if done.url is None:
        say(f"{done.folder}: what would be pushed to {done.repository}")
    else:
        say(f"{done.url}: commit {done.commit}")
    say_sizes(done.files)
    if done.url is not None:
        calls = [OPENED_BY[done.layout].format(done.repository)] if done.layout in OPENED_BY else []
        say("\n".join(f"  {call}" for call in [*calls, f'convnext.load("hf:{done.repository}")']))


PUSH = Command("push", "publish a run on the Hugging Face Hub", _options, _run)
