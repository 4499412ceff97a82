"""Speed and memory of fine-tuning steps against timm's, and what activation checkpointing saves and costs.

    python benchmarks/train.py [--only "tiny"] [--repeats 7] [--device cuda] [--out FILE.md] [--json FILE]

A step is forward, backward and fused AdamW. Both sides hold the same weights, and their logits are compared before
anything is timed. Both run as their users would for speed: in channels-last memory format, compiled or not. Calls of
the two alternate; a time is the median over the repeats. Memory is what a step takes at its peak beyond weights,
optimizer and images, in a process of its own. On CUDA each side has the batch that gives it the most images a second.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import forward
import timm
import torch
from forward import build_pair, check_equal
from memory import peak_in_a_process, peak_mib
from tables import table
from timing import machine, medians, say, write_result
from torch.nn import functional as F

from convnext.train.cuda_graph import GraphedStep


@dataclass(frozen=True)
class Case(forward.Case):
    """One comparison of training steps."""

    checkpointing: bool = False

    def __str__(self) -> str:
        how = ["bf16" if self.bf16 else "fp32", "compiled" if self.compiled else "eager"]
        how += ["checkpointing"] if self.checkpointing else []
        return f"{self.model}, batch {self.batch} at {self.size}, {', '.join(how)}"


CPU_CASES = [
    *(Case("convnextv2_tiny", 16, 224, bf16, True, saving) for saving in (False, True) for bf16 in (False, True)),
    *(Case("convnextv2_tiny", 16, 224, bf16) for bf16 in (False, True)),
    *(Case("convnextv2_atto", 64, 128, bf16, compiled) for compiled in (True, False) for bf16 in (False, True)),
]
CUDA_CASES = [
    Case(f"convnextv2_{size}", 0, 224, True, True, saving)
    for size in ("tiny", "base", "large")
    for saving in (False, True)
]
BATCHES = (32, 64, 128, 256, 512)
SIDES = ("convnext", "timm")
COLUMNS: list[dict] = [
    {"name": "step"},
    {"name": "convnext, images/s", "digits": 1},
    {"name": "timm, images/s", "digits": 1},
    {"name": "×", "digits": 2},
    {"name": "convnext, MiB", "digits": 0},
    {"name": "timm, MiB", "digits": 0},
    {"name": "memory, ×", "head": "×", "digits": 2},
]


def inputs(part: tuple) -> list[torch.Tensor]:
    """Tensors of a part of a batch, for `GraphedStep`; of visible patches, their places."""
    return [each if isinstance(each, torch.Tensor) else each.index for each in part]


def step(case: Case, side: str, device: str, graphed: bool = False) -> Callable[[], None]:
    """What is timed; `graphed`: its forward and backward pass as a CUDA graph."""
    ours, theirs = build_pair(case.model)
    ours.checkpointing = case.checkpointing
    theirs.set_grad_checkpointing(case.checkpointing)
    model = {"convnext": ours, "timm": theirs}[side].to(device).train()
    run = torch.compile(model) if case.compiled else model
    images = torch.randn(case.batch, 3, case.size, case.size, device=device).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.randint(1000, (case.batch,), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def compute(part: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=case.bf16):
            loss = F.cross_entropy(run(part[0]), part[1])
        loss.backward()
        return loss.detach()

    work = GraphedStep(compute, model, inputs) if graphed else compute

    def one() -> None:
        work((images, labels))
        optimizer.step()
        optimizer.zero_grad()

    return one


def best_batch(case: Case, side: str, repeats: int) -> tuple[Case, float]:
    """On CUDA: the batch with the most images a second that fits, and the milliseconds of its step."""
    best, least = case, float("inf")
    for batch in BATCHES:
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        try:
            (time,) = medians([step(replace(case, batch=batch), side, "cuda")], repeats)
        except torch.cuda.OutOfMemoryError:
            break
        if time / batch < least:
            best, least = replace(case, batch=batch), time / batch
    return best, least * best.batch


def row(case: Case, device: str, repeats: int) -> list:
    """The figures of a case."""
    torch._dynamo.reset()
    size = 64 if device == "cuda" else case.size
    check_equal(*(model.eval() for model in build_pair(case.model)), torch.randn(2, 3, size, size))
    if device == "cuda":
        cases, times = zip(*(best_batch(case, side, repeats) for side in SIDES), strict=True)
    else:
        cases = (case, case)
        times = medians([step(case, side, device) for side in SIDES], repeats)
    speeds = [each.batch / time * 1e3 for each, time in zip(cases, times, strict=True)]
    peaks = [peak_in_a_process(__file__, str(each), side, device) for each, side in zip(cases, SIDES, strict=True)]
    return [str(cases[0]), *speeds, speeds[0] / speeds[1], *peaks, peaks[0] / peaks[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the table as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = CUDA_CASES if args.device == "cuda" else CPU_CASES
    if args.peak:
        known = [*cases, *(replace(case, batch=batch) for case in cases for batch in BATCHES)]
        case = next(case for case in known if str(case) == args.peak[0])
        print(peak_mib(step(case, args.peak[1], args.device), args.device))
        return
    head = f"{machine()}; {args.threads} threads; {platform.system()}, Python {platform.python_version()}, torch "
    head += f"{torch.__version__.split('+')[0]}, timm {timm.__version__}; medians of {args.repeats} alternating steps"
    print(head, flush=True)
    rows: list[list] = []
    for case in cases:
        if args.only in str(case):
            rows.append(row(case, args.device, args.repeats))
            say(COLUMNS, rows)
    if args.out:
        text = ["# Speed of fine-tuning", "", f"{head}.", "", "Command: `python benchmarks/train.py`.", ""]
        args.out.write_text("\n".join([*text, *table(COLUMNS, rows), ""]))
    if args.json:
        title = "Speed and memory of fine-tuning steps against timm's"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, peers=("timm",), note=head)


if __name__ == "__main__":
    main()
