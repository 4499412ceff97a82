"""`convnext convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.command import Command, Parser, add_json, add_source
from convnext.printing import complain, say, to_json

TARGETS = (
    *("official", "timm", "hf", "dinov3", "torchvision", "open_clip", "mmpretrain", "isotropic", "fcmae"),
    "original",
)
_NEXT = {
    "hf": 'transformers.pipeline("image-classification", model={!r})',
    "dinov3": "transformers.AutoModel.from_pretrained({!r})",
    "timm": 'timm.create_model("local-dir:{}", pretrained=True)',
}
"""Call by which the library of a layout opens a converted folder."""


def _options(command: Parser) -> None:
    add_source(command)
    command.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="a new folder for hf, dinov3 and timm, which gets configuration files too; for others FILE.safetensors",
    )
    command.add_argument(
        "--to",
        required=True,
        choices=TARGETS,
        metavar="LAYOUT",
        help="layout whose names the weights get: %(choices)s; hf and dinov3 are transformers', original is the "
        "layout that the weights came in",
    )
    add_json(command, "one JSON object: path, layout, and lines on what was left out or changed")


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.convert import convert

    done = convert(args.source, args.out, args.to)
    for note in done.notes:
        complain(note)
    if args.json:
        print(to_json({"path": str(done.path), "layout": done.layout, "notes": done.notes}))
        return
    say(f"{done.path}: the weights in the {done.layout} layout")
    if done.layout in _NEXT and done.path.is_dir():
        say(f"  {_NEXT[done.layout].format(str(done.path))}")


CONVERT = Command("convert", "write weights for timm, transformers, torchvision and others", _options, _run)
