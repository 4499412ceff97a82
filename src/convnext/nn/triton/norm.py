"""Triton kernels of LayerNorm over channels, forward and backward, and of sums over all positions.

PyTorch's take several times as long as it takes to move their inputs where there are few channels and many positions
(docs/results.md). A program walks down a run of rows, with all channels of some rows in registers at a time. Sums are
in fp32, in an order that depends on shapes alone.
"""

# Triton compiles kernels from their source; they have no types for mypy.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048  # numbers that a program has in registers at a time, at least a row of them
PROGRAMS = 1024  # of kernels that sum over rows, at most: each writes its sums to memory
WIDEST = 256  # channels of a program that only sums
NORM_OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm of rows.

    Args:
        x: contiguous `[M, C]`.
        weight: `[C]`, of any type; it enters unrounded.
        bias: `[C]`, likewise.
        eps: added to the variance.

    Returns:
        A tensor like `x`; each row's mean and the inverse of its deviation, `[M]`, in fp32 or more.
    """
    rows, channels = x.shape
    out = torch.empty_like(x)
    mean, inverse = (x.new_empty(rows, dtype=torch.promote_types(x.dtype, torch.float32)) for _ in range(2))
    block, height = _tile(channels)
    with torch.cuda.device_of(x):
        _forward[(triton.cdiv(rows, height),)](
            x, weight, bias, out, mean, inverse, rows, eps, C=channels, BLOCK=block, ROWS=height, **NORM_OPTIONS
        )
    return out, mean, inverse


def layer_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, the last two in fp32 or more; `mean` and `inverse` as `layer_norm` gives."""
    rows, channels = x.shape
    block, height = _tile(channels)
    run = triton.cdiv(triton.cdiv(rows, height), PROGRAMS)
    programs = triton.cdiv(rows, run * height)
    dx = torch.empty_like(x)
    sums = mean.new_empty(programs, 2, channels)
    with torch.cuda.device_of(x):
        _backward[(programs,)](
            grad, x, weight, mean, inverse, dx, sums, rows, run, C=channels, BLOCK=block, ROWS=height, **NORM_OPTIONS
        )
    dweight, dbias = sums.sum(0)
    return dx, dweight, dbias


def triton_column_sums(x: Tensor) -> Tensor:
    """Sums over the rows of contiguous `[M, C]`, in fp32 or more."""
    rows, channels = x.shape
    block = min(WIDEST, triton.next_power_of_2(channels))
    height, blocks = TILE // block, triton.cdiv(channels, block)
    run = triton.cdiv(triton.cdiv(rows, height) * blocks, PROGRAMS)
    programs = triton.cdiv(rows, run * height)
    sums = x.new_empty(programs, channels, dtype=torch.promote_types(x.dtype, torch.float32))
    with torch.cuda.device_of(x):
        _column_sums[(programs, blocks)](x, sums, rows, run, C=channels, BLOCK=block, ROWS=height, **NORM_OPTIONS)
    return sums.sum(0)


def _tile(channels: int) -> tuple[int, int]:
    """Channels and rows that a program has in registers."""
    block = triton.next_power_of_2(channels)
    return block, max(1, TILE // block)


@triton.jit(do_not_specialize=["rows"])
def _forward(x, weight, bias, out, mean, inverse, rows, eps, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    row, c = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    seen, there = row < rows, c < C
    places, both = row[:, None] * C + c[None, :], seen[:, None] & there[None, :]
    values = tl.load(x + places, mask=both, other=0).to(mean.dtype.element_ty)
    middle = _sum(values, 1) / C
    centred = tl.where(there[None, :], values - middle[:, None], 0)
    scale = 1 / tl.sqrt(_sum(centred * centred, 1) / C + eps)
    w = tl.load(weight + c, mask=there).to(values.dtype)
    b = tl.load(bias + c, mask=there).to(values.dtype)
    normed = centred * scale[:, None] * w[None, :] + b[None, :]
    tl.store(out + places, normed.to(out.dtype.element_ty), mask=both)
    tl.store(mean + row, middle, mask=seen)
    tl.store(inverse + row, scale, mask=seen)


@triton.jit(do_not_specialize=["rows", "run"])
def _backward(
    grad, x, weight, mean, inverse, dx, sums, rows, run, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr
):
    program, c = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    there = c < C
    w = tl.load(weight + c, mask=there, other=0).to(sums.dtype.element_ty)
    dweight = tl.full((ROWS, BLOCK), 0, w.dtype)
    dbias = tl.full((ROWS, BLOCK), 0, w.dtype)
    for step in range(run):
        row = (program * run + step) * ROWS + tl.arange(0, ROWS)
        seen = row < rows
        places, both = row[:, None] * C + c[None, :], seen[:, None] & there[None, :]
        scale = tl.load(inverse + row, mask=seen, other=0)[:, None]
        middle = tl.load(mean + row, mask=seen, other=0)[:, None]
        normed = (tl.load(x + places, mask=both, other=0).to(w.dtype) - middle) * scale
        normed = tl.where(there[None, :], normed, 0)
        d = tl.load(grad + places, mask=both, other=0).to(w.dtype)
        dweight += d * normed
        dbias += d
        d *= w[None, :]
        slope = _sum(d * normed, 1) / C
        level = _sum(d, 1) / C
        d = (d - level[:, None] - normed * slope[:, None]) * scale
        tl.store(dx + places, d.to(dx.dtype.element_ty), mask=both)
    tl.store(sums + program * 2 * C + c, _sum(dweight, 0), mask=there)
    tl.store(sums + (program * 2 + 1) * C + c, _sum(dbias, 0), mask=there)


@triton.jit(do_not_specialize=["rows", "run"])
def _column_sums(x, sums, rows, run, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    program, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = c < C
    total = tl.full((ROWS, BLOCK), 0, sums.dtype.element_ty)
    for step in range(run):
        row = (program * run + step) * ROWS + tl.arange(0, ROWS)
        both = (row < rows)[:, None] & there[None, :]
        total += tl.load(x + row[:, None] * C + c[None, :], mask=both, other=0).to(total.dtype)
    tl.store(sums + program * C + c, _sum(total, 0), mask=there)


# Not `tl.sum`, nor another module's: tests interpret a module, and what it calls of others is compiled code.
@triton.jit
def _sum(values, axis: tl.constexpr):
    return tl.reduce(values, axis, _add)


@triton.jit
def _add(a, b):
    return a + b
