"""`convnext predict`: many images, of which some may be unreadable."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from convnext.cli.command import Command, Parser, add_device, add_engine, add_inputs, add_json, add_size, add_source
from convnext.errors import InputError

GIVEN = ("top_k", "threshold", "tile", "out")
"""Options that only some tasks' models take (`TaskDefinition.answer_options`)."""


def _options(command: Parser) -> None:
    add_source(command)
    add_inputs(command)
    suppressed: dict[str, Any] = {"default": argparse.SUPPRESS}
    command.add_argument(
        "--top-k", type=int, metavar="N", help="classifiers: labels an image [default: 5]", **suppressed
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="all but classifiers: where drawings and results go",
        **suppressed,
    )
    command.add_argument(
        "--threshold", type=float, metavar="SCORE", help="detectors: least score [default: 0.5]", **suppressed
    )
    command.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="detectors: look at squares of such a side, one by one",
        **suppressed,
    )
    add_size(command)
    add_device(command)
    add_engine(command)
    add_json(command, "a line an image: the labels of a single file, else image and labels")


def _run(args: argparse.Namespace) -> int:
    from convnext.data.sources.inputs import expand
    from convnext.tasks.load import load_answering, task_of_weights

    images = list(expand(args.inputs))
    predictor = load_answering(args.source, device=args.device, backend=args.backend, precision=args.precision)
    task = task_of_weights(args.source)
    given = {name: getattr(args, name) for name in GIVEN if hasattr(args, name)}
    for name in given.keys() - set(task.answer_options):
        taken = ", ".join(f"--{option.replace('_', '-')}" for option in task.answer_options)
        raise InputError(
            f"--{name.replace('_', '-')} is not for `convnext {task.command}`'s models, which take {taken}"
        )
    predictor.see(args.image_size, args.crop)
    single = len(args.inputs) == 1 and len(images) == 1 and images[0][0] in (args.inputs[0], "-")
    return task.answer(predictor, images, as_json=args.json, single=single, **given)


PREDICT = Command("predict", "label images, find objects in them, or say what pixels show", _options, _run)
