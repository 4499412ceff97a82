"""`convnext embed`: the embeddings of many images in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import (
    Command,
    Parser,
    add_device,
    add_engine,
    add_exclude,
    add_inputs,
    add_json,
    add_size,
    add_source,
    refuse_below,
)
from convnext.printing import counted, say, status_of, to_json


def _options(command: Parser) -> None:
    add_source(command)
    add_inputs(command)
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="FILE.parquet, with columns path and embedding, or FILE.npy and beside it FILE.txt with the paths",
    )
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="begin anew, and replace FILE; without: go on where an interrupted command stopped",
    )
    command.add_argument("--batch-size", type=int, default=16, metavar="N", help="images that are computed together")
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes that load images")
    add_exclude(command)
    add_size(command)
    add_device(command)
    add_engine(command, None)
    add_json(command, "one JSON object: file, images, width, and lines on what was left out")


def _run(args: argparse.Namespace) -> int:
    from convnext.data.exclude import read_exclude
    from convnext.data.sources.inputs import expand
    from convnext.reports.embeddings import files_of
    from convnext.runtime.device import keep_fp32
    from convnext.tasks.embedding import embed_images
    from convnext.tasks.load import load, steady_backend

    refuse_below(args, batch_size=1, workers=0, image_size=1)
    files_of(args.out)  # another kind of file is refused before anything is loaded
    images = list(expand(args.inputs, read_exclude(args.exclude)))
    keep_fp32()
    predictor = load(
        args.source, device=args.device, backend=args.backend or steady_backend(args.source), precision=args.precision
    )
    predictor.see(args.image_size, args.crop)
    how = {"batch_size": args.batch_size, "workers": args.workers, "overwrite": args.overwrite}
    done = embed_images(predictor, images, args.out, **how)
    status = status_of(len(done.left_out), len(images))
    if status == 2:
        return status
    if args.json:
        print(to_json({"file": str(args.out), **done._asdict()}))
    else:
        say(f"{counted(done.images, 'image')}, embeddings of {done.width} numbers: {args.out}")
    return status


EMBED = Command("embed", "write images' embeddings, to search, cluster or compare them by", _options, _run)
