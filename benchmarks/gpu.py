"""Everything that is to be known of the GPU path, from eight minutes of one GPU.

    python benchmarks/gpu.py [--minutes 8] [--only steps] [--out DIR]

Parts run in the order of their worth, and those that come after the time is up are left out; what fails costs its own
row. Beside the tables that are printed, DIR gets `gpu.json`. On a machine without a GPU (`--device cpu`) all parts run
with tiny sizes, so that a test can see that they do; the figures mean nothing then.

Rules: calls of the two sides alternate, a time is the median; inputs of kernels are taken from more memory than the
GPU's cache has; outputs are filled with NaN before they are compared with fp64; the card's settings are left alone.
Compiled networks are compiled beforehand, side by side in processes of their own, into the compiler's cache on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pretrain
import timm
import torch
import train
from gpu_kernels import Row, Sizes, copy_bandwidth, correctness, depthwise, guarded, seconds, stages
from gpu_trainer import loading, trainer
from timing import kernels, machine, medians
from torch import Tensor

import convnext
from convnext.nn import block as block_module
from convnext.nn.block import Block
from convnext.nn.depthwise import whole_maps as depthwise_dense
from convnext.train.cuda_graph import BEFORE


def ceilings(sizes: Sizes) -> Iterator[Row]:
    """What the card does at best: a large copy, a large product, copies to it, an empty launch."""
    yield {"what": "copy", "GB/s": copy_bandwidth(sizes) / 1e9}
    side = 256 if sizes.device == "cpu" else 8192
    a, b = (torch.randn(side, side, device=sizes.device, dtype=sizes.dtype) for _ in range(2))
    yield {"what": f"product of {side}", "TFLOP/s": 2 * side**3 / seconds(sizes, torch.mm, [(a, b)]) / 1e12}
    host = torch.empty(2**20 if sizes.device == "cpu" else 2**28, dtype=torch.uint8)
    for name, tensor in (("pageable", host), ("pinned", host.pin_memory() if sizes.device == "cuda" else host)):
        place = torch.empty_like(host, device=sizes.device)
        taken = seconds(sizes, lambda t, place=place: place.copy_(t, non_blocking=True), [(tensor,)])
        yield {"what": f"to the card, {name}", "GB/s": host.nbytes / taken / 1e9}
    tiny = torch.zeros(1, device=sizes.device)
    yield {"what": "small launch", "µs": 1e6 * seconds(sizes, tiny.add_, [(1,)] * 200)}


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Inside, blocks do without our kernels for "mlp" or "depthwise"."""
    saved = block_module.takes_operator, depthwise_dense.takes_own_kernel
    if "mlp" in names:
        block_module.takes_operator = lambda *_: False
    if "depthwise" in names:
        depthwise_dense.takes_own_kernel = lambda *_: False
    yield
    block_module.takes_operator, depthwise_dense.takes_own_kernel = saved


def blocks(sizes: Sizes) -> Iterator[Row]:
    """Forward and backward of one block of each stage: layers, with our kernels, compiled; milliseconds and memory."""
    for model, stage, dim, side in stages(sizes):
        if model != sizes.model:
            continue
        x = torch.randn(sizes.batch, side, side, dim, device=sizes.device, dtype=sizes.dtype, requires_grad=True)
        grad = torch.randn_like(x)
        row: Row = {"model": model, "stage": stage}
        for name, left_out in (("PyTorch's", ("mlp", "depthwise")), ("MLP ours", ("depthwise",)), ("ours", ())):
            for compiled in sizes.compiled:
                torch._dynamo.reset()
                block = Block(dim).to(sizes.device)
                run = torch.compile(block) if compiled else block

                def step(run: Any = run, x: Tensor = x, grad: Tensor = grad) -> None:
                    with torch.autocast(sizes.device, sizes.dtype):
                        out = run(x)
                    out.backward(grad)

                key = f"{name}, {'compiled' if compiled else 'eager'}"
                with without(*left_out), guarded(row, key):
                    row[key] = 1e3 * seconds(sizes, step, [()])
                    row[f"{key}, MiB"] = peak(sizes, step)
        yield row


def peak(sizes: Sizes, step: Callable[[], object]) -> float:
    """MiB that a step takes beyond what is there before."""
    if sizes.device == "cpu":
        return 0.0
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - held) / 2**20


def cases(sizes: Sizes) -> dict[str, tuple[Callable[[], Callable[[], object]], tuple[str, ...]]]:
    """Steps by name: what builds one, and which of our kernels it does without."""
    found: dict[str, Any] = {}
    for compiled in sizes.compiled:
        for graphed in sizes.graphed:
            how = ("compiled" if compiled else "eager") + (", graph" if graphed else "")
            case = train.Case(sizes.model, sizes.batch, sizes.side, True, compiled)
            for side in train.SIDES:
                found[f"fine-tune, {side}, {how}"] = (
                    lambda c=case, s=side, g=graphed: train.step(c, s, sizes.device, g),
                    (),
                )
            found[f"fine-tune, without our kernels, {how}"] = (
                lambda c=case, g=graphed: train.step(c, "convnext", sizes.device, g),
                ("mlp", "depthwise"),
            )
            pre = pretrain.Case(sizes.large, sizes.batch, True, compiled)
            for side in ("visible", "dense"):
                found[f"pre-train, {side}, {how}"] = (
                    lambda c=pre, s=side, g=graphed: pretrain.step(c, s, sizes.device, g),
                    (),
                )
    return found


def begun(build: Callable[[], Callable[[], object]]) -> Callable[[], object]:
    """A step that was taken so often that it is compiled, and recorded as a CUDA graph."""
    step = build()
    for _ in range(BEFORE + 2):
        step()
    return step


def steps(sizes: Sizes) -> Iterator[Row]:
    """Whole training steps: images a second and memory."""
    for name, (build, left_out) in cases(sizes).items():
        if sizes.rows and name not in sizes.rows:
            continue
        torch._dynamo.reset()
        row: Row = {"step": name}
        with without(*left_out), guarded(row, "images/s"):
            step = begun(build)
            (taken,) = medians([step], sizes.repeats)
            row |= {"ms": taken, "images/s": sizes.batch / taken * 1e3}
            if "graph" not in name:  # whose memory is taken for good
                row["MiB"] = peak(sizes, step)
            del step
        if sizes.device == "cuda":
            torch.cuda.empty_cache()
        yield row


PROFILED = {
    "cpu": ("fine-tune, convnext, eager",),
    "cuda": (
        "fine-tune, convnext, eager, graph",
        "fine-tune, convnext, compiled, graph",
        "pre-train, visible, eager, graph",
    ),
}


def profile(sizes: Sizes) -> Iterator[Row]:
    """The kernels that take a step's time, and the share of it in which any ran."""
    for name, (build, left_out) in cases(sizes).items():
        if name not in PROFILED[sizes.device]:
            continue
        torch._dynamo.reset()
        row: Row = {"step": name}
        with without(*left_out), guarded(row, "kernel"):
            step = begun(build)
            with torch.profiler.profile() as profiler:
                start = time.perf_counter()
                for _ in range(3):
                    step()
                if sizes.device == "cuda":
                    torch.cuda.synchronize()
                wall = (time.perf_counter() - start) / 3
            events = kernels(profiler) if sizes.device == "cuda" else []
            busy = sum(event.self_device_time_total for event in events) / 3 / 1e6
            yield {**row, "kernel": "all", "ms": 1e3 * busy, "share": busy / wall}
            for event in sorted(events, key=lambda event: -event.self_device_time_total)[:16]:
                own = event.self_device_time_total / 3e3
                yield {**row, "kernel": event.key[:70], "ms": own, "calls": event.count // 3}
        if "kernel" in row:
            yield row


def inference(sizes: Sizes) -> Iterator[Row]:
    """Ours and timm's compiled forward passes, in bf16."""
    for batch in (1, 2 * sizes.batch):
        images = torch.randn(batch, 3, sizes.side, sizes.side, device=sizes.device)
        images = images.contiguous(memory_format=torch.channels_last)
        for compiled in sizes.compiled:
            torch._dynamo.reset()
            calls = []
            for model in train.build_pair(sizes.model):
                model = model.to(sizes.device).eval()
                run = torch.compile(model) if compiled else model

                def call(run: Any = run, images: Tensor = images) -> None:
                    with torch.inference_mode(), torch.autocast(sizes.device, sizes.dtype):
                        run(images)

                calls.append(call)
            row: Row = {"batch": batch, "compiled": compiled}
            with guarded(row, "ours, ms"):
                row["ours, ms"], row["timm, ms"] = medians(calls, 2 * sizes.repeats)
            yield row


PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "ceilings": ceilings,
    "correctness": correctness,
    "depthwise": depthwise,
    "blocks": blocks,
    "steps": steps,
    "profile": profile,
    "loading": loading,
    "trainer": trainer,
    "inference": inference,
}


def warm(sizes: Sizes, seconds_left: float) -> None:
    """Compile the steps in processes of their own, side by side."""
    command = [sys.executable, __file__, "--device", sizes.device, "--large", sizes.large, "--warm"]
    names = [name for name in cases(sizes) if "compiled" in name and "graph" not in name]
    names = [name for name in names if not sizes.rows or {name, f"{name}, graph"} & set(sizes.rows)]
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "6"
    started = [subprocess.Popen([*command, name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for name in names]
    end = time.monotonic() + seconds_left
    for name, process in zip(names, started, strict=True):
        try:
            _, said = process.communicate(timeout=max(1, end - time.monotonic()))
            if process.returncode:
                print(f"{name}: {said.decode().splitlines()[-1:]}", flush=True)
        except subprocess.TimeoutExpired:
            process.kill()
            print(f"{name}: not compiled in time", flush=True)


def table(rows: list[Row]) -> str:
    """Rows of one kind as markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in (row.get(name, "") for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--large", default="convnextv2_base", help="the model that is pre-trained")
    parser.add_argument("--compile-seconds", type=float, default=150, help="for compiling beforehand, at most")
    parser.add_argument("--rows", nargs="+", default=[], help="of steps, these alone")
    parser.add_argument("--compile-only", action="store_true", help="into the cache; a later call takes 0 seconds")
    parser.add_argument("--warm", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    sizes, end = Sizes(args.device, args.large, args.rows), time.monotonic() + 60 * args.minutes
    warnings.filterwarnings("ignore")
    if args.warm:
        build, left_out = cases(sizes)[args.warm]
        with without(*left_out):
            build()()
        return
    head = f"{machine()}; Python {sys.version.split()[0]}, torch {torch.__version__}, timm {timm.__version__}"
    print(head, f"convnext {convnext.__version__}", flush=True)
    results: dict[str, Any] = {"machine": head}
    if "steps" in args.only and sizes.device == "cuda" and args.compile_seconds:
        start = time.monotonic()
        warm(sizes, args.compile_seconds)
        print(f"compiled in {time.monotonic() - start:.0f} s", flush=True)
    if args.compile_only:
        return
    for name in args.only:
        start, rows = time.monotonic(), results.setdefault(name, [])
        failure: Row = {}
        with guarded(failure, "failed"):
            for row in PARTS[name](sizes):
                rows.append(row)
                if args.out:
                    args.out.mkdir(parents=True, exist_ok=True)
                    (args.out / "gpu.json").write_text(json.dumps(results, indent=1))
                if time.monotonic() > end:
                    failure["failed"] = "the time was up"
                    break
        rows += [failure] if failure else []
        print(f"\n## {name} ({time.monotonic() - start:.0f} s)\n\n{table(rows)}", flush=True)
    if args.out:
        (args.out / "gpu.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
