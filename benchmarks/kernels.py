"""The depthwise convolution of visible patches, as a share of the memory's measured copy bandwidth.

    python benchmarks/kernels.py [--device cuda] [--model convnextv2_base] [--batch 128] [--out FILE.md] [--json FILE]

Each of the three passes has to read one or two tensors of the activations' size and write one or none: two in all. The
share is how fast it moves those, against a plain copy of the largest of them. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tables import table
from timing import machine, say, write_result

from convnext.models.masking import random_patches
from convnext.nn.depthwise.visible_patches import slot_tables, tile_tables
from convnext.variants import find_variant

REPEATS = 20
COLUMNS: list[dict] = [
    {"name": "stage"},
    {"name": "pass"},
    {"name": "ms", "digits": 3},
    {"name": "GB/s", "digits": 0},
    {"name": "share of a copy", "digits": 2},
]

convolve = torch.ops.convnext.visible_depthwise
weight_gradient = torch.ops.convnext.visible_depthwise_weight_gradient


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """The median of `REPEATS` calls, after three to warm up."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    taken = []
    for repeat in range(-3, REPEATS):
        wait()
        start = time.perf_counter()
        function(*arguments)
        wait()
        if repeat >= 0:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--model", default="convnextv2_base")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--out", type=Path, help="write the table as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    device, dtype = args.device, getattr(torch, args.dtype)
    patches = random_patches(args.batch, (7, 7), 0.6, device=device)
    rows: list[list] = []
    copied = 0.0
    for i, dim in enumerate(find_variant(args.model).dims):
        p = 8 >> i
        x, grad = (torch.randn(args.batch, 19, p, p, dim, device=device, dtype=dtype) for _ in range(2))
        weight, bias = torch.randn(dim, 1, 7, 7, device=device), torch.randn(dim, device=device)
        tables = tile_tables(patches, p) if device == "cpu" else slot_tables(patches)
        moved = 2 * x.nbytes
        copied = copied or moved / seconds(torch.empty_like(x).copy_, x)
        passes = {
            "forward": (convolve, x, weight, bias, tables),
            "input gradient": (convolve, grad, weight.flip(2, 3), None, tables),
            "weight gradient": (weight_gradient, x, grad, tables),
        }
        for name, call in passes.items():
            taken = seconds(*call)
            speed = moved / taken
            rows.append([i + 1, name, taken * 1e3, speed / 1e9, speed / copied])
            say(COLUMNS, rows)
    heading = (
        f"{machine()}; {args.model}, batch {args.batch} at 224, {args.dtype}; a copy moves {copied / 1e9:.0f} GB/s"
    )
    print(heading)
    if args.out:
        text = ["# Depthwise convolution of visible patches", "", heading + ".", "", *table(COLUMNS, rows), ""]
        args.out.write_text("\n".join(text))
    if args.json:
        title = "Depthwise convolution of visible patches, as a share of a copy's bandwidth"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, note=heading)


if __name__ == "__main__":
    main()
