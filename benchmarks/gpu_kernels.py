"""What `gpu.py` measures of single kernels and blocks: their errors, and the depthwise convolution by itself."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convnext.models.masking import random_patches
from convnext.native import depthwise_cuda as cuda
from convnext.nn.block import Block
from convnext.nn.depthwise.visible_patches import place_tables
from convnext.variants import find_variant

Row = dict[str, Any]
ROTATED = 200e6  # bytes of inputs that calls of a kernel take turns in


class Sizes:
    """What is measured, on a GPU or in a test."""

    def __init__(self, device: str, large: str = "convnextv2_base", rows: list[str] | None = None) -> None:
        small = device == "cpu"
        self.rows = rows or []  # of steps, if not all
        self.device = device
        self.batch = 2 if small else 128
        self.side = 64 if small else 224
        self.model, self.large = ("convnextv2_atto",) * 2 if small else ("convnextv2_tiny", large)
        self.models = list(dict.fromkeys([self.model, self.large]))
        self.dtype = torch.bfloat16
        self.repeats = 2 if small else 10
        self.images = 8 if small else 20000
        self.compiled = (False,) if small else (False, True)
        self.graphed = (False,) if small else (False, True)


def seconds(sizes: Sizes, call: Callable[..., object], inputs: list[tuple[Any, ...]]) -> float:
    """The median time of a call, by events on the GPU, over inputs that take turns.

    Calls are recorded and replayed as a CUDA graph: the CPU takes longer to start a small kernel than a GPU to run it.
    """
    for arguments in inputs[:2]:
        call(*arguments)
    if sizes.device == "cpu":
        start = time.perf_counter()
        call(*inputs[0])
        return time.perf_counter() - start
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for arguments in inputs:
            call(*arguments)
    taken = []
    graph.replay()
    for _ in range(sizes.repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end) / len(inputs) / 1e3)
    return sorted(taken)[len(taken) // 2]


def rotated(sizes: Sizes, *shapes: tuple[int, ...]) -> list[list[Tensor]]:
    """Several sets of random tensors of these shapes, together larger than a cache."""
    nbytes = 2 * sum(int(np.prod(shape)) for shape in shapes)
    count = 1 if sizes.device == "cpu" else max(2, int(ROTATED // nbytes) + 1)
    return [[torch.randn(s, device=sizes.device, dtype=sizes.dtype) for s in shapes] for _ in range(count)]


def copy_bandwidth(sizes: Sizes) -> float:
    """Bytes a second that a copy reads and writes."""
    sets = rotated(sizes, (2**24 if sizes.device == "cpu" else 2**30,))
    return 2 * sets[0][0].nbytes / seconds(sizes, lambda x: torch.empty_like(x).copy_(x), [tuple(s) for s in sets])


@contextlib.contextmanager
def guarded(row: Row, name: str) -> Iterator[None]:
    """A fault inside becomes the row's entry, and is shown."""
    try:
        yield
    except Exception as error:  # whatever it is, the other rows are worth having
        traceback.print_exc()
        row[name] = (
            f"{type(error).__name__}: {str(error).splitlines()[0][:120]}" if str(error) else type(error).__name__
        )


def stages(sizes: Sizes) -> Iterator[tuple[str, int, int, int]]:
    """Model, stage, channels and side of the map of every stage."""
    for model in sizes.models:
        for i, dim in enumerate(find_variant(model).dims):
            yield model, i + 1, dim, (sizes.side // 4) >> i


def depthwise(sizes: Sizes) -> Iterator[Row]:
    """The depthwise convolution: each way of computing it as a share of a copy's bandwidth, and its error."""
    bandwidth = copy_bandwidth(sizes)
    for model, stage, dim, side in stages(sizes):
        weight, bias = torch.randn(dim, 1, 7, 7, device=sizes.device), torch.randn(dim, device=sizes.device)
        sets = rotated(sizes, *[(sizes.batch, side, side, dim)] * 2)
        kinds = {"whole maps": dense_ways(sets, weight, bias)}
        if model == sizes.large:  # a minute of compilation for each model
            kinds["visible"] = visible_ways(sizes, dim, side)
        for name, passes in kinds.items():
            for which, ways in passes.items():
                row: Row = {"model": model, "stage": stage, "maps": name, "pass": which}
                for way, (call, inputs) in ways.items():
                    moved = 2 * inputs[0][0].nbytes
                    with guarded(row, way):
                        row[way] = moved / seconds(sizes, call, inputs) / bandwidth
                yield row


def dense_ways(sets: list[list[Tensor]], weight: Tensor, bias: Tensor) -> dict[str, dict[str, Any]]:
    """By pass, the ways to compute it: a function and its inputs."""
    small, groups = weight.to(sets[0][0].dtype), len(bias)
    own, last, first = ([], [], [])
    for x, grad in sets:
        own.append((x, grad))
        last.append((x.permute(0, 3, 1, 2), grad.permute(0, 3, 1, 2)))
        first.append(tuple(t.permute(0, 3, 1, 2).contiguous() for t in (x, grad)))

    def forward(x: Tensor, _: Tensor) -> Tensor:
        return F.conv2d(x, small, small[:, 0, 0, 0], padding=3, groups=groups)

    def backward(x: Tensor, grad: Tensor, mask: list[bool]) -> Any:
        ones = [1, 1]
        return torch.ops.aten.convolution_backward(
            grad, x, small, [groups], ones, [3, 3], ones, False, [0, 0], groups, mask
        )

    found: dict[str, dict[str, Any]] = {}
    for name, mine, peer in (
        ("forward", lambda x, _: cuda.convolve(x, weight, bias), forward),
        (
            "input gradient",
            lambda _, grad: cuda.convolve(grad, weight, None),
            lambda x, grad: backward(x, grad, [True, False, False]),
        ),
        ("weight gradient", cuda.weight_gradient, lambda x, grad: backward(x, grad, [False, True, True])),
    ):
        found[name] = {"PyTorch, channels last": (peer, last), "PyTorch, channels first": (peer, first)}
        if sets[0][0].is_cuda:
            found[name] = {"ours": (mine, own)} | found[name]
    return found


def visible_ways(sizes: Sizes, dim: int, side: int) -> dict[str, dict[str, Any]]:
    """The same of visible patches."""
    convolve, gradient = torch.ops.convnext.visible_depthwise, torch.ops.convnext.visible_depthwise_weight_gradient
    grid = sizes.side // 32
    patches = random_patches(sizes.batch, (grid, grid), 0.6, device=sizes.device)
    visible, p = patches.index.shape[1], side // grid
    weight, bias = torch.randn(dim, 1, 7, 7, device=sizes.device), torch.randn(dim, device=sizes.device)
    sets = rotated(sizes, *[(sizes.batch, visible, p, p, dim)] * 2)
    tables = place_tables(sets[0][0], patches)
    inputs = [tuple(s) for s in sets]
    return {
        "forward": {"ours": (lambda x, _: convolve(x, weight, bias, tables), inputs)},
        "weight gradient": {"ours": (lambda x, grad: gradient(x, grad, tables), inputs)},
    }


def correctness(sizes: Sizes) -> Iterator[Row]:
    """Outputs and gradients of a block against fp64, for each stage, whole maps and visible patches, in each type."""
    for model, stage, dim, side in stages(sizes):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for visible in (False, True):
                if sizes.device == "cpu" and dtype == torch.float16:
                    continue
                if visible and (dtype != torch.bfloat16 or model != sizes.large):
                    continue  # a minute of compilation each
                row: Row = {"model": model, "stage": stage, "visible": visible, "type": str(dtype)}
                with guarded(row, "error"):
                    row["error"] = block_error(sizes, dim, side, dtype, visible)
                    limit = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 6e-3}[dtype]
                    row["passes"] = row["error"] < limit
                yield row


def block_error(sizes: Sizes, dim: int, side: int, dtype: torch.dtype, visible: bool) -> float:
    """The largest relative error of a block's output and gradients under autocast, against fp64 on the CPU."""
    torch.manual_seed(0)
    block = Block(dim)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    grid = sizes.side // 32
    patches = random_patches(2, (grid, grid), 0.6) if visible else None
    shape = (2, patches.index.shape[1], side // grid, side // grid, dim) if patches else (2, side, side, dim)
    x, grad = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    results = []
    for device, kind in (("cpu", torch.float64), (sizes.device, dtype)):
        copy = Block(dim).to(device, torch.float64 if kind == torch.float64 else torch.float32)
        copy.load_state_dict(block.state_dict())
        moved = None if patches is None else type(patches)(patches.index.to(device), patches.grid)
        leaf = x.to(device, kind).requires_grad_()
        with torch.autocast(device, kind, enabled=kind in (torch.bfloat16, torch.float16)):
            out = copy(leaf, moved)
        out.backward(grad.to(device, out.dtype))
        results.append(
            [t.detach().double().cpu() for t in (out - leaf, leaf.grad, *(p.grad for p in copy.parameters()))]
        )
    return max(((a - b).norm() / a.norm()).item() for a, b in zip(*results, strict=True))
