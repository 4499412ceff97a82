"""`convnext benchmark`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from convnext.cli.command import Command, Parser, add_json, add_out, add_source, refuse_below
from convnext.printing import say, to_json

if TYPE_CHECKING:
    from convnext.deploy.benchmark import BenchmarkRow


def _options(command: Parser) -> None:
    add_source(command)
    command.add_argument(
        "--formats",
        metavar="LIST",
        help="formats to measure, some of torch,compile,onnx,openvino,aot,int8; without: torch,onnx,openvino, and "
        "int8 where there are images for it",
    )
    command.add_argument("--data", metavar="LABELLED", help="measure the model on it too, as `evaluate` does")
    command.add_argument(
        "--calibrate",
        metavar="FOLDER",
        help="images by which int8 is calibrated; without: training images of --data, if that is a folder",
    )
    command.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="side, or short side, of the images; without: the model's own"
    )
    command.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads for each engine; without: all processors"
    )
    add_out(command, "keep the exports there, and the rows as benchmark.json")
    add_json(command, "one JSON list, an object a row")


NUMBERS = {
    "latency_ms": ("ms at 1", ".1f"),
    "images_per_s": ("images/s at 16", ".1f"),
    "file_mb": ("file MB", ".1f"),
    "memory_mb": ("memory MB", ".0f"),
    "export_s": ("export s", ".1f"),
    "load_s": ("load s", ".1f"),
    "first_s": ("first s", ".1f"),
    "difference": ("difference", ".1e"),
}
"""The table's columns: title and form of a number, by a row's field."""


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.benchmark import benchmark_rows

    refuse_below(args, image_size=1, threads=1)
    names = ("data", "calibrate", "image_size", "threads", "out")
    formats = None if args.formats is None else [name.strip() for name in args.formats.split(",")]
    rows: list[BenchmarkRow] = []
    for row in benchmark_rows(args.source, formats=formats, **{name: getattr(args, name) for name in names}):
        if not args.json:
            if not rows:
                say(f"{'format':<10}{'type':<6}" + "".join(f"  {title:>10}" for title, _ in NUMBERS.values()))
            say(_line(row))
        rows.append(row)
    if args.json:
        print(to_json([asdict(row) for row in rows]))


def _line(row: BenchmarkRow) -> str:
    start = f"{row.format:<10}{row.precision:<6}"
    if row.error is not None:
        return f"{start}  {row.error}"
    cells = []
    for field, (title, form) in NUMBERS.items():
        number = getattr(row, field)
        cells.append(f"  {'-' if number is None else format(number, form):>{max(10, len(title))}}")
    line = start + "".join(cells)
    metric = next(iter((row.metrics or {}).items()), None)
    return line if metric is None else f"{line}  {metric[0]} {metric[1]:.4g}"


BENCHMARK = Command("benchmark", "measure a model's speed, size and accuracy by format", _options, _run)
