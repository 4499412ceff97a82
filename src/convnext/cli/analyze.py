"""`convnext analyze`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from convnext.cli.command import Command, Parser, add_device, add_engine, add_json, add_out, refuse_below
from convnext.parsing import parse
from convnext.printing import complain, say, to_json


def _sources(command: Parser) -> None:
    command.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="run directories, weight files or published names, side by side"
    )


def _looked_at(command: Parser, data: str, images: int) -> None:
    command.add_argument("data", metavar="DATA", help=data)
    add_out(command, "for pictures, figures and index.html, which shows all analyses in it", required=True)
    command.add_argument("--images", type=int, default=images, metavar="N", help="images of DATA that are looked at")
    add_device(command)


def _loading(command: Parser) -> None:
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="images that are computed together")
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes that load images")


def _collapse_options(command: Parser) -> None:
    _sources(command)
    _looked_at(command, "folder, table or shards of images; labels are not needed", 1000)
    _loading(command)
    add_json(command, "one JSON list, an object a source and block")


def _selectivity_options(command: Parser) -> None:
    _sources(command)
    _looked_at(command, "labelled images, as `train classify` takes", 1000)
    _loading(command)
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        help="split of DATA to measure on; without: what it holds out, else all",
    )
    add_json(command, "one JSON list, an object a source and block")


def _activations_options(command: Parser) -> None:
    _sources(command)
    _looked_at(command, "an image, a folder or a pattern", 4)
    command.add_argument(
        "--block", type=int, metavar="N", help="number of the block to draw, from 1; without: the last"
    )
    add_json(command, "one JSON object: files written")


def _attribute_options(command: Parser) -> None:
    _sources(command)
    _looked_at(command, "an image, a folder or a pattern", 16)
    command.add_argument("--label", metavar="CLASS", help="the class that is explained; without: the model's answer")
    command.add_argument(
        "--method",
        choices=["gradcam", "hirescam", "layercam"],
        default="gradcam",
        help="how channels are weighed; gradcam: by their mean gradient; hirescam: every value by its own; layercam: "
        "by its positive part",
    )
    command.add_argument(
        "--stage", type=int, default=-1, metavar="N", help="stage that is looked at, from 1; -1: the last, the coarsest"
    )
    add_json(command, "one JSON list, an object a source and image")


def _measured(command: Parser) -> None:
    command.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="runs, weight files, published names or exports, side by side"
    )
    command.add_argument("data", metavar="DATA", help="labelled images, as the task's `train` takes")
    add_out(command, "for figures, pictures and index.html, which shows all analyses in it", required=True)
    command.add_argument("--images", type=int, metavar="N", help="images of DATA, spread over it; without: all")
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        help="split of DATA to measure on; without: what it holds out, else all",
    )
    command.add_argument(
        "--classes",
        choices=["model", "data"],
        help="classifiers: which classes are compared, as in `convnext evaluate`",
    )
    command.add_argument(
        "--format", metavar="NAME", help="format of the annotations, where DATA has several: coco, yolo, voc, ..."
    )
    command.add_argument("--batch-size", type=int, default=64, metavar="N", help="images that are measured together")
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes that load images")
    add_device(command)
    add_engine(command, None)


def _robustness_options(command: Parser) -> None:
    _measured(command)
    command.add_argument(
        "--corruptions",
        metavar="LIST",
        help="corruptions to measure, with commas, or all nineteen; without: the common fifteen",
    )
    command.add_argument(
        "--severities", metavar="LIST", default="1,2,3,4,5", help="severities to measure, from 1 to 5, with commas"
    )
    command.add_argument("--overwrite", action="store_true", help="begin anew where FOLDER holds other measurements")
    add_json(command, "one JSON list, an object a source")


def _resolution_options(command: Parser) -> None:
    _measured(command)
    command.add_argument(
        "--factors", metavar="LIST", help="image sizes to measure, as shares of the training size, with commas"
    )
    add_json(command, "one JSON list, an object a source and size")


def _reconstruct_options(command: Parser) -> None:
    command.add_argument("source", metavar="SOURCE", help="pre-training run or weight file with its decoder")
    command.add_argument("inputs", metavar="IMAGES", nargs="+", help="files, folders or globs")
    add_out(command, "where the pictures go", required=True)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random masks")
    add_device(command)
    add_json(command, "one JSON object: files written, and lines on what failed")


def _chosen(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options by name; `InputError` for numbers that cannot be."""
    refuse_below(args, images=1, batch_size=1, workers=0, block=1)
    return {name: getattr(args, name) for name in ("images", "device", *names)}


MEASURED = ("split", "classes", "format", "batch_size", "workers", "backend", "precision")
"""Options of analyses that measure as `evaluate` does."""


def _answer(args: argparse.Namespace, found: Any) -> None:
    if args.json:
        print(to_json(found))
    else:
        say(args.out / "index.html")


def _collapse(args: argparse.Namespace) -> None:
    from convnext.tasks.analyze import collapse

    how = _chosen(args, "batch_size", "workers")
    _answer(args, collapse(args.sources, args.data, args.out, **how))


def _selectivity(args: argparse.Namespace) -> None:
    from convnext.tasks.analyze import selectivity

    how = _chosen(args, "batch_size", "workers", "split")
    _answer(args, selectivity(args.sources, args.data, args.out, **how))


def _activations(args: argparse.Namespace) -> int:
    from convnext.tasks.analyze import activations

    files, left_out = activations(args.sources, args.data, args.out, **_chosen(args, "block"))
    _answer(args, {"files": [str(file) for file in files]})
    return _status(left_out)


def _attribute(args: argparse.Namespace) -> int:
    from convnext.tasks.analyze import attribution

    rows, left_out = attribution(args.sources, args.data, args.out, **_chosen(args, "label", "method", "stage"))
    _answer(args, rows)
    return _status(left_out)


def _status(left_out: Sequence[str]) -> int:
    """Name the images that could not be read; the command's exit status."""
    for reason in left_out:
        complain(reason)
    return 1 if left_out else 0


def _robustness(args: argparse.Namespace) -> None:
    from convnext.data.corruptions import ALL
    from convnext.tasks.robustness import robustness

    how = _chosen(args, *MEASURED, "overwrite")
    how["severities"] = parse("severities", args.severities, tuple[int, ...])
    if args.corruptions is not None:
        named = args.corruptions != "all"
        how["corruptions"] = parse("corruptions", args.corruptions, tuple[str, ...]) if named else ALL
    _answer(args, robustness(args.sources, args.data, args.out, **how))


def _resolution(args: argparse.Namespace) -> None:
    from convnext.tasks.resolution import resolution

    how = _chosen(args, *MEASURED)
    if args.factors is not None:
        how["factors"] = parse("factors", args.factors, tuple[float, ...])
    _answer(args, resolution(args.sources, args.data, args.out, **how))


def _reconstruct(args: argparse.Namespace) -> int:
    from convnext.analysis.reconstructions import reconstruct

    refuse_below(args, seed=0)
    files, failures = reconstruct(args.source, args.inputs, args.out, device=args.device, seed=args.seed)
    if args.json:
        print(to_json({"files": [str(file) for file in files], "left_out": failures}))
    else:
        for file in files:
            say(file)
    return _status(failures)


ANALYSES = (
    Command("analyze collapse", "measure how alike the channels of each block are", _collapse_options, _collapse),
    Command(
        "analyze selectivity",
        "measure how much each block's channels answer to one class",
        _selectivity_options,
        _selectivity,
    ),
    Command("analyze activations", "draw what the channels of a block show", _activations_options, _activations),
    Command("analyze attribute", "draw what answers rest on (Grad-CAM)", _attribute_options, _attribute),
    Command("analyze robustness", "measure under ImageNet-C's corruptions", _robustness_options, _robustness),
    Command("analyze resolution", "measure at other image sizes", _resolution_options, _resolution),
    Command(
        "analyze reconstruct",
        "draw what a pre-trained model makes of hidden patches",
        _reconstruct_options,
        _reconstruct,
    ),
)
"""All commands of `convnext analyze`."""
