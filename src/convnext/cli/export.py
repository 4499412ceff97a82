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
        help="format of the file: ONNX, OpenVINO's, or aot, PyTorch's compiled package",
    )
    command.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        default="fp32",
        help="number type of the computation; fp16 for onnx and openvino (which stores it), bf16 for openvino and aot",
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="FILE.onnx, FILE.xml (openvino) or FILE.pt2 (aot)"
    )
    command.add_argument("--images", metavar="FOLDER", help="images to check the export on; without: made-up ones")
    command.add_argument(
        "--int8",
        metavar="FOLDER",
        help="openvino: quantise weights and activations to 8 bits, by the ranges that up to 300 images of FOLDER show",
    )
    command.add_argument(
        "--data", metavar="LABELLED", help="with --int8: measure network and export on it, as `evaluate` does"
    )
    command.add_argument(
        "--pixels",
        action="store_true",
        help="make a file that takes pixels, uint8 [N, H, W, C], resized and cropped, and normalises them itself",
    )
    add_json(
        command,
        "one JSON object: file, engine, largest difference, as a share of the outputs' range, and what was measured",
    )


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.export.write import export

    names = ("format", "precision", "int8", "data", "images", "pixels")
    done = export(args.source, args.out, **{name: getattr(args, name) for name in names})
    if args.json:
        found = {"file": str(done.path), "engine": done.engine, "difference": done.difference}
        print(to_json(found | ({} if done.measured is None else {"measured": done.measured})))
        return
    say(f"{done.path}: run by {done.engine}, differs from the network by {done.difference:.1e} of its outputs' range")
    if done.measured is not None:
        network, exported = (done.measured[name] for name in ("network", "export"))
        say(f"{'':<16}{'network':>12}{'export':>12}")
        for name in network:
            say(f"{name:<16}" + "".join(f"{_shown(each[name]):>12}" for each in (network, exported)))
    say(f"  {command_line('predict', done.path)} IMAGE")


def _shown(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


EXPORT = Command("export", "write a model for ONNX Runtime, OpenVINO or without compiling", _options, _run)
