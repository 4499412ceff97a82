"""`convnext index`."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import Command, Parser, add_json
from convnext.printing import counted, say, to_json


def _options(command: Parser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of tar files; the index goes there")
    add_json(command, "one JSON object: folder, images and shards")


def _run(args: argparse.Namespace) -> None:
    from convnext.data.shards.index import index_shards
    from convnext.data.shards.write import count_images

    shards = index_shards(args.folder)
    if args.json:
        print(to_json({"folder": str(args.folder), "images": count_images(shards), "shards": len(shards)}))
    else:
        say(f"{args.folder}: {counted(count_images(shards), 'image')} in {counted(len(shards), 'shard')}")


INDEX_COMMAND = Command("index", "let tar files that others packed (WebDataset) be taken as data", _options, _run)
