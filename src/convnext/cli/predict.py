"""`convnext predict`: many images, of which some may be unreadable."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.cli.command import (
    Command,
    Parser,
    add_device,
    add_engine,
    add_inputs,
    add_json,
    add_size,
    add_source,
    refuse_below,
)
from convnext.errors import InputError
from convnext.printing import flag_of

if TYPE_CHECKING:
    from convnext.tasks.definition import TaskDefinition

GIVEN = ("top_k", "threshold", "tile", "out", "format")
"""Options that only some tasks' models take (`TaskDefinition.answer_options`)."""


def _options(command: Parser) -> None:
    add_source(command)
    add_inputs(command)
    suppressed: dict[str, Any] = {"default": argparse.SUPPRESS}
    command.add_argument(
        "--top-k", type=int, metavar="N", help="classifiers: labels for each image [default: 5]", **suppressed
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for drawings and results; for classifiers only with --format",
        **suppressed,
    )
    command.add_argument(
        "--format",
        metavar="NAME",
        help="write answers to FOLDER for an annotation program to import, instead of drawings: coco, yolo, voc or "
        "labelme of detectors, maps, voc, coco, yolo or labelme of segmenters, csv or parquet of detectors and "
        "classifiers",
        **suppressed,
    )
    command.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="detectors: lowest score of an object [default: 0.5]",
        **suppressed,
    )
    command.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="detectors: cut large images into overlapping squares of this side, and look at each",
        **suppressed,
    )
    command.add_argument(
        "--calibrated",
        action="store_true",
        help="answer with the calibration that training fitted: scores that say how often answers are right, or a "
        "threshold for each class (detectors, several labels)",
    )
    add_size(command)
    add_device(command)
    add_engine(command)
    add_json(command, "a line an image: the labels of a single file, else image and labels")


def _run(args: argparse.Namespace) -> int:
    from convnext.data.sources.inputs import expand

    refuse_below(args, top_k=1, tile=1, image_size=1)
    images = list(expand(args.inputs))
    predictor, task = _opened(args)
    given = {name: getattr(args, name) for name in GIVEN if hasattr(args, name)}
    for name in given.keys() - set(task.answer_options):
        taken = ", ".join(map(flag_of, task.answer_options))
        raise InputError(f"{flag_of(name)} is not for `convnext {task.command}`'s models, which take {taken}")
    single = len(args.inputs) == 1 and len(images) == 1 and images[0][0] in (args.inputs[0], "-")
    return task.answer(predictor, images, as_json=args.json, single=single, **given)


def _opened(args: argparse.Namespace) -> tuple[Any, TaskDefinition]:
    """The predictor, and the task that it answers. A classifier's export needs no PyTorch, and none is imported."""
    how = {"backend": args.backend, "precision": args.precision, "device": args.device}
    if args.image_size is None and args.crop is None:
        from convnext.inference.portable import PortableClassifier, portable
        from convnext.tasks.registry import find_task
        from convnext.weights.calibration import stored_calibration

        classify = find_task("classify")
        if found := portable(args.source, classify.name):
            classifier = PortableClassifier(*found, **how)
            if args.calibrated:
                classifier.calibrate(stored_calibration(args.source, found[1]))
            return classifier, classify

    from convnext.runtime.device import keep_fp32
    from convnext.tasks.load import load_answering, task_of_weights

    keep_fp32()
    predictor = load_answering(args.source, calibrated=args.calibrated, **how)
    predictor.see(args.image_size, args.crop)
    return predictor, task_of_weights(args.source)


PREDICT = Command("predict", "label images, find objects in them, or say what pixels show", _options, _run)
