"""`convnext pack`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from convnext.cli.command import Command, Parser, add_exclude, add_json, add_out, refuse_below
from convnext.errors import InputError
from convnext.printing import command_line, complain, counted, flag_of, say, to_json

if TYPE_CHECKING:
    from convnext.data.shards.write import Shard

    Packed = tuple[list[Shard], list[str]]


def _options(command: Parser) -> None:
    command.add_argument("data", metavar="DATA", help="data as `train` of --task takes it")
    add_out(command, "where the shards go", required=True)
    command.add_argument(
        "--task",
        choices=tuple(PACKERS),
        default="classify",
        help="what is packed with the images: classes, boxes and masks of objects, or label maps",
    )
    command.add_argument(
        "--no-labels", action="store_true", help="pack any folder of images, flat or nested, to pre-train on"
    )
    command.add_argument(
        "--frame-rate",
        type=float,
        metavar="NUMBER",
        help="with --no-labels: frames that are taken from each second of a video [1]",
    )
    command.add_argument(
        "--multi-label", action="store_true", help="keep several labels an image, as a table gives them"
    )
    command.add_argument(
        "--val-fraction",
        type=float,
        metavar="SHARE",
        help="--task classify: share held out where DATA has no split of its own [0.2]; other tasks choose it when "
        "they train",
    )
    command.add_argument("--shard-mb", type=int, default=256, metavar="MB", help="size of a shard, in megabytes")
    command.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="shrink images to this shorter side, where theirs is longer, so that training reads them faster; "
        "without: copy files as they are",
    )
    command.add_argument(
        "--format",
        metavar="NAME",
        help="format of the annotations: coco, yolo, voc, ...; with --task classify, their boxes are the images",
    )
    add_exclude(command)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the images' random order")
    add_json(command, "one JSON object: folder, images, shards, and lines on what was left out")


def _run(args: argparse.Namespace) -> int:
    from convnext.data.shards.write import count_images

    refuse_below(args, shard_mb=1, short_side=1, seed=0)
    shards, failures = PACKERS[args.task](args)
    for failure in failures:
        complain(failure)
    if args.json:
        found = {"folder": str(args.out), "images": count_images(shards), "shards": len(shards)}
        print(to_json({**found, "left_out": failures}))
    else:
        words = ["pretrain"] if args.no_labels else ["train", args.task]
        say(f"{args.out}: {counted(count_images(shards), 'image')} in {counted(len(shards), 'shard')}; next:")
        say(f"  {command_line(*words, args.out, '--out')} RUN")
    return 1 if failures else 0


def _pack_classes(args: argparse.Namespace) -> Packed:
    from convnext.data.shards.pack import pack_shards

    given = {"val_fraction": args.val_fraction, "frame_rate": args.frame_rate}
    return pack_shards(
        args.data,
        args.out,
        shard_bytes=args.shard_mb * 10**6,
        short_side=args.short_side,
        labels=not args.no_labels,
        multi_label=args.multi_label,
        seed=args.seed,
        form=args.format,
        exclude=args.exclude,
        **{name: value for name, value in given.items() if value is not None},
    )


def _pack_objects(args: argparse.Namespace) -> Packed:
    from convnext.data.shards.pack_objects import pack_objects

    return pack_objects(args.data, args.out, **_how_as_they_are(args))


def _pack_maps(args: argparse.Namespace) -> Packed:
    from convnext.data.shards.pack_maps import pack_maps

    return pack_maps(args.data, args.out, **_how_as_they_are(args))


def _how_as_they_are(args: argparse.Namespace) -> dict[str, Any]:
    """Options of packing images with what has their size, in the parts that they have."""
    for name in ("no_labels", "multi_label", "val_fraction", "short_side", "frame_rate"):
        if getattr(args, name) not in (None, False):
            raise InputError(f"{flag_of(name)} is of images with classes, not of --task {args.task}")
    return {"shard_bytes": args.shard_mb * 10**6, "seed": args.seed, "form": args.format, "exclude": args.exclude}


PACKERS = {"classify": _pack_classes, "detect": _pack_objects, "segment": _pack_maps}
"""Packing of the data of each task."""

PACK = Command("pack", "pack images into tar shards, which train, pretrain and evaluate take as data", _options, _run)
