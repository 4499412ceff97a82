"""Speed of the network on a CPU against timm's: inference, eager and compiled. Training: `train.py`.

    python benchmarks/forward.py [--only compiled] [--repeats 7] [--threads 2] [--out FILE.md] [--json FILE]

Both sides hold the same weights, and their logits are compared before anything is timed. Both run as
their users would for speed: in channels-last memory format, and when compiled with frozen weights.
Calls of the two alternate, each first in turn, so that both meet the machine in the same state; a time is the median
over the repeats.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch._inductor.config
from tables import table
from timing import machine, medians, say, write_result
from torch import nn

import convnext
from convnext.weights.layouts import from_official


@dataclass(frozen=True)
class Case:
    """One comparison; `size` is the side of the square images."""

    model: str
    batch: int
    size: int
    bf16: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        how = ("bf16 autocast" if self.bf16 else "fp32", "compiled" if self.compiled else "eager")
        return f"{self.model} forward, batch {self.batch} at {self.size}, {', '.join(how)}"


CASES = [
    Case(model, batch=batch, size=224, bf16=bf16, compiled=compiled)
    for model, bf16 in (("convnextv2_tiny", False), ("convnextv2_tiny", True), ("convnext_tiny", False))
    for compiled in (False, True)
    for batch in (1, 16)
]
COLUMNS: list[dict] = [
    {"name": "case", "head": ""},
    {"name": "convnext, ms", "digits": 1},
    {"name": "timm, ms", "digits": 1},
    {"name": "ratio", "digits": 2},
]


def build_pair(name: str) -> tuple[nn.Module, nn.Module]:
    """Ours and timm's with the same random weights, GRN's included, in channels-last memory."""
    torch.manual_seed(0)
    ours = convnext.create_model(name)
    with torch.no_grad():
        for key, parameter in ours.named_parameters():
            if ".grn." in key:
                parameter.normal_(std=0.1)
    theirs = timm.create_model(name)
    theirs.load_state_dict(from_official(ours.state_dict(), "timm"))
    last = torch.channels_last
    return ours.to(memory_format=last), theirs.to(memory_format=last)


def check_equal(ours: nn.Module, theirs: nn.Module, images: torch.Tensor) -> None:
    """In fp32, whatever is to be timed."""
    with torch.no_grad():
        torch.testing.assert_close(ours(images[:2]), theirs(images[:2]), rtol=1e-4, atol=1e-4)


def call(case: Case, model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """What is timed: one forward pass."""
    run = torch.compile(model) if case.compiled else model

    def forward() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
            run(images)

    return forward


def measure(case: Case, repeats: int) -> tuple[float, float]:
    """Milliseconds, ours and timm's."""
    torch._dynamo.reset()
    torch._inductor.config.freezing = True
    ours, theirs = (model.eval() for model in build_pair(case.model))
    images = torch.randn(case.batch, 3, case.size, case.size).contiguous(memory_format=torch.channels_last)
    check_equal(ours, theirs, images)
    # Single images are quick and jittery: more of them.
    repeats *= 5 if case.batch == 1 else 1
    mine, peer = medians([call(case, model, images) for model in (ours, theirs)], repeats)
    return mine, peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the table as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    heading = [
        f"{machine()}; {args.threads} threads; {platform.system()}, Python {platform.python_version()}",
        f"convnext against timm {timm.__version__}, both on torch {torch.__version__.split('+')[0]}; "
        f"medians of {args.repeats} alternating calls ({5 * args.repeats} at batch 1)",
    ]
    print("\n".join(heading), flush=True)
    rows: list[list] = []
    for case in CASES:
        if args.only not in str(case):
            continue
        mine, peer = measure(case, args.repeats)
        rows.append([str(case), mine, peer, peer / mine])
        say(COLUMNS, rows)
    if args.out:
        text = ["# Speed of the network on a CPU", "", *(f"{line}." for line in heading), ""]
        text += [
            "Command: `python benchmarks/forward.py`. A ratio above 1 says that convnext is faster.",
            "",
            *table(COLUMNS, rows),
            "",
        ]
        args.out.write_text("\n".join(text))
    if args.json:
        title = "Speed of the network on a CPU against timm's"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, peers=("timm",), note="; ".join(heading))


if __name__ == "__main__":
    main()
