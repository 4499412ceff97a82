"""`convnext pack`."""

from __future__ import annotations

import argparse

from convnext.cli.command import Command, Parser, add_exclude, add_json, add_out
from convnext.printing import command_line, complain, say, to_json


def _options(command: Parser) -> None:
    command.add_argument("data", metavar="DATA", help="what `train classify` takes")
    add_out(command, "where the shards go", required=True)
    command.add_argument(
        "--no-labels", action="store_true", help="any folder of images, flat or nested, to pre-train on"
    )
    command.add_argument(
        "--frame-rate",
        type=float,
        default=1.0,
        metavar="NUMBER",
        help="with --no-labels: frames of a second of video that are images [1]",
    )
    command.add_argument("--multi-label", action="store_true", help="images of a table may have several labels")
    command.add_argument(
        "--val-fraction", type=float, default=0.2, metavar="SHARE", help="held out where DATA does not say"
    )
    command.add_argument("--shard-mb", type=int, default=256, metavar="MB", help="size of a shard, in megabytes")
    command.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="make images smaller whose shorter side is longer, which training reads faster; without: copy files as "
        "they are",
    )
    command.add_argument("--format", metavar="NAME", help="pack the boxes of detection data: coco, yolo, voc, ...")
    add_exclude(command)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the images' order")
    add_json(command, "one JSON object: folder, images, shards, and lines on what was left out")


def _run(args: argparse.Namespace) -> int:
    from convnext.data.shards.pack import count_images, pack_shards

    shards, failures = pack_shards(
        args.data,
        args.out,
        shard_bytes=args.shard_mb * 10**6,
        short_side=args.short_side,
        labels=not args.no_labels,
        multi_label=args.multi_label,
        val_fraction=args.val_fraction,
        seed=args.seed,
        form=args.format,
        exclude=args.exclude,
        frame_rate=args.frame_rate,
    )
    for failure in failures:
        complain(failure)
    if args.json:
        found = {"folder": str(args.out), "images": count_images(shards), "shards": len(shards)}
        print(to_json({**found, "left_out": failures}))
    else:
        words = ["pretrain"] if args.no_labels else ["train", "classify"]
        say(f"{args.out}: {count_images(shards)} images in {len(shards)} shards; next:")
        say(f"  {command_line(*words, args.out, '--out')} RUN")
    return 1 if failures else 0


PACK = Command("pack", "pack images into tar shards, which train, pretrain and evaluate take as data", _options, _run)
