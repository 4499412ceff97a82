"""`convnext export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import Command, Parser, add_json, add_source
from convnext.printing import command_line, say, to_json


def _options(command: Parser) -> None:
    add_source(command)
    command.add_argument(
        "--format",
        choices=("onnx", "openvino", "aot"),
        default="onnx",
        help="engine: ONNX Runtime, OpenVINO, or PyTorch's compiled package",
    )
    command.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        default="fp32",
        help="type of the computation; fp16 for onnx and openvino (which stores it), bf16 for openvino and aot",
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="FILE.onnx, FILE.xml (openvino) or FILE.pt2 (aot)"
    )
    command.add_argument("--images", metavar="FOLDER", help="images to check the export on; without, made-up ones")
    add_json(command, "one JSON object: file, engine, and the largest difference, as a share of the outputs' range")


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.export.write import export

    done = export(args.source, args.out, format=args.format, precision=args.precision, images=args.images)
    if args.json:
        print(to_json({"file": str(done.path), "engine": done.engine, "difference": done.difference}))
        return
    say(f"{done.path}: run by {done.engine}, differs from the network by {done.difference:.1e} of its outputs' range")
    say(f"  {command_line('predict', done.path)} IMAGE")


EXPORT = Command("export", "write a model for ONNX Runtime, OpenVINO or without compiling", _options, _run)
