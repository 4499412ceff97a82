"""Triton kernels of what stands between the two matrix products of a block: GELU and GRN, forward and backward.

A GPU spends most of a block's time on moving activations four times as wide as the block's input. Here GELU is
computed again from the one wide tensor that is kept, where it is needed: the forward pass reads that tensor twice and
writes the second product's input; the backward pass reads it twice beside its gradient. Sums are in fp32, in an order
that depends on shapes alone.

Images are cut into runs of positions, and channels into blocks. A program has one run of one image and one block of
channels; two small kernels, with a program for each image, turn the runs' sums into GRN's scale.
"""

# Triton compiles kernels from their source; they have no types for mypy.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from convnext.nn.norm import EPS as GRN_EPS
from convnext.nn.norm import column_sums

GRN_EPSILON = tl.constexpr(GRN_EPS)
ROWS = 16  # positions that a program has in registers at a time
RUN = 256  # positions of a program, at most
POINTWISE_OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
POINTWISE_SIZES = ["positions", "chunks"]  # arguments that no code is specialised for


def triton_mlp_forward(
    x: Tensor, w1: Tensor, b1: Tensor, gamma: Tensor | None, beta: Tensor | None, w2: Tensor, b2: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`nn.pointwise.mlp_forward` on CUDA."""
    (images, positions, dim), wide = x.shape, w1.shape[0]
    w1, b1, w2, b2 = (t.to(x.dtype) for t in (w1, b1, w2, b2))
    hidden = torch.addmm(b1, x.view(-1, dim), w1.t()).view(images, positions, wide)
    gx, scale = (None, None) if gamma is None else response(hidden, gamma)
    normed = apply(hidden, scale, beta, torch.empty_like(hidden) if keep else hidden)
    out = torch.addmm(b2, normed.view(-1, wide), w2.t()).view(x.shape)
    none = x.new_empty(0, wide, dtype=torch.float32)
    return out, hidden if keep else x.new_empty(0, positions, wide), gx if keep and gx is not None else none


def triton_mlp_backward(
    grad: Tensor,
    x: Tensor,
    hidden: Tensor,
    gx: Tensor,
    w1: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    w2: Tensor,
) -> tuple[Tensor, ...]:
    """`nn.pointwise.mlp_backward` on CUDA."""
    (_, _, dim), wide = x.shape, w1.shape[0]
    small1, small2 = w1.to(x.dtype), w2.to(x.dtype)
    rows, grad = x.view(-1, dim), grad.contiguous().view(-1, dim)
    full = torch.promote_types(x.dtype, torch.float32)
    db2 = column_sums(grad)
    dnormed = (grad @ small2).view(hidden.shape)
    scale = through = None
    dgamma = dbeta = db2.new_empty(wide)
    if gamma is not None:
        scale, through, dgamma = response_backward(dnormed, hidden, gx, gamma)
        dbeta = db2 @ w2.to(full)
    dhidden, normed, db1 = apply_backward(dnormed, hidden, scale, through, beta)
    dw2 = product(grad.t(), normed.view(-1, wide))
    dhidden = dhidden.view(-1, wide)
    dw1 = product(dhidden.t(), rows)
    dx = (dhidden @ small1).view(x.shape)
    return dx, *(t.to(w1.dtype) for t in (dw1, db1, dgamma, dbeta, dw2, db2))


def product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` in fp32 or more: a sum over all positions is not rounded to their type."""
    if a.dtype in (torch.bfloat16, torch.float16) and a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a @ b


def _plan(hidden: Tensor) -> tuple[tuple[int], tuple[int, ...], dict[str, int]]:
    """How the work on `[N, P, wide]` is cut: the grid of programs, sizes, and what is compiled in."""
    images, positions, wide = hidden.shape
    block = 256 if wide % 256 == 0 else 128
    chunks = triton.cdiv(positions, RUN)
    run = triton.cdiv(triton.cdiv(positions, chunks), ROWS) * ROWS
    grid = (triton.cdiv(wide, block) * chunks * images,)
    exact = hidden.dtype not in (torch.bfloat16, torch.float16)
    return grid, (positions, chunks), {"WIDE": wide, "RUN": run, "ROWS": ROWS, "BLOCK": block, "EXACT": exact}


def response(hidden: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """GRN's `Gx` of GELU of `hidden`, and its scale `1 + gamma * Nx`: two `[N, wide]`, in fp32 or more.

    Args:
        hidden: the first product, contiguous `[N, P, wide]`.
        gamma: `[wide]`.
    """
    (grid, sizes, plan), (images, _, wide) = _plan(hidden), hidden.shape
    full = torch.promote_types(hidden.dtype, torch.float32)
    sums = hidden.new_empty(images, sizes[1], wide, dtype=full)
    gx, scale = (hidden.new_empty(images, wide, dtype=full) for _ in range(2))
    with torch.cuda.device_of(hidden):
        _square_sums[grid](hidden, sums, *sizes, **plan, **POINTWISE_OPTIONS)
        _scale[(images,)](sums, gamma.to(full), gx, scale, sizes[1], WIDE=wide, BLOCK=triton.next_power_of_2(wide))
    return gx, scale


def apply(hidden: Tensor, scale: Tensor | None, beta: Tensor | None, out: Tensor) -> Tensor:
    """`GELU(hidden) * scale + beta` of `[N, P, wide]` into `out`, which may be `hidden`; without GRN, GELU alone."""
    grid, sizes, plan = _plan(hidden)
    with torch.cuda.device_of(hidden):
        _apply[grid](hidden, scale, beta, out, *sizes, **plan, GRN=scale is not None, **POINTWISE_OPTIONS)
    return out


def response_backward(grad: Tensor, hidden: Tensor, gx: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradient of GRN's output `[N, P, wide]`: GRN's scale, the factor of GELU in GELU's gradient by way of
    the norm, both `[N, wide]`, and gamma's gradient `[wide]`."""
    (grid, sizes, plan), (images, _, wide) = _plan(hidden), hidden.shape
    sums = gx.new_empty(images, sizes[1], wide)
    scale, through, dgamma = (torch.empty_like(gx) for _ in range(3))
    with torch.cuda.device_of(hidden):
        _scale_sums[grid](grad, hidden, sums, *sizes, **plan, **POINTWISE_OPTIONS)
        _scale_backward[(images,)](
            sums,
            gx,
            gamma.to(gx.dtype),
            scale,
            through,
            dgamma,
            sizes[1],
            WIDE=wide,
            BLOCK=triton.next_power_of_2(wide),
        )
    return scale, through, dgamma.sum(0)


def apply_backward(
    grad: Tensor, hidden: Tensor, scale: Tensor | None, through: Tensor | None, beta: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradient of `apply`'s output: that of `hidden`, written over it; `apply`'s output again; and the sum of
    the first over all positions `[wide]`, in fp32 or more."""
    grid, sizes, plan = _plan(hidden)
    full = torch.promote_types(hidden.dtype, torch.float32)
    sums = hidden.new_empty(hidden.shape[0] * sizes[1], hidden.shape[2], dtype=full)
    out = torch.empty_like(hidden)
    with torch.cuda.device_of(hidden):
        _apply_backward[grid](
            grad, hidden, scale, through, beta, out, sums, *sizes, **plan, GRN=scale is not None, **POINTWISE_OPTIONS
        )
    return grad, out, sums.sum(0)


@triton.jit(do_not_specialize=POINTWISE_SIZES)
def _square_sums(
    hidden,
    sums,
    positions,
    chunks,
    WIDE: tl.constexpr,
    RUN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    EXACT: tl.constexpr,
):
    first, last, c, there, image, number = _place(positions, chunks, WIDE, RUN, BLOCK)
    total = tl.full((ROWS, BLOCK), 0, sums.dtype.element_ty)
    for row in range(first, last, ROWS):
        places, seen = _tile(row, last, image, positions, c, there, WIDE, ROWS)
        h = tl.load(hidden + places, mask=seen, other=0).to(total.dtype)
        a = h * _normal(h, EXACT)[0]
        total += a * a
    tl.store(sums + number.to(tl.int64) * WIDE + c, _sum(total, 0), mask=there)


@triton.jit(do_not_specialize=["chunks"])
def _scale(sums, gamma, gx, scale, chunks, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    image = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    there = c < WIDE
    norm = tl.sqrt(_whole_image(sums, image, chunks, c, there, WIDE))
    factor = tl.load(gamma + c, mask=there, other=0) * (norm / (_sum(norm, 0) / WIDE + GRN_EPSILON))
    tl.store(gx + image * WIDE + c, norm, mask=there)
    tl.store(scale + image * WIDE + c, 1 + factor, mask=there)


@triton.jit(do_not_specialize=POINTWISE_SIZES)
def _apply(
    hidden,
    scale,
    beta,
    out,
    positions,
    chunks,
    WIDE: tl.constexpr,
    RUN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    EXACT: tl.constexpr,
    GRN: tl.constexpr,
):
    first, last, c, there, image, _ = _place(positions, chunks, WIDE, RUN, BLOCK)
    if GRN:
        factor = tl.load(scale + image * WIDE + c, mask=there)[None, :]
        shift = tl.load(beta + c, mask=there).to(factor.dtype)[None, :]
    for row in range(first, last, ROWS):
        places, seen = _tile(row, last, image, positions, c, there, WIDE, ROWS)
        h = tl.load(hidden + places, mask=seen, other=0)
        h = h.to(tl.float64 if h.dtype == tl.float64 else tl.float32)
        a = h * _normal(h, EXACT)[0]
        if GRN:
            a = a * factor + shift
        tl.store(out + places, a.to(out.dtype.element_ty), mask=seen)


@triton.jit(do_not_specialize=POINTWISE_SIZES)
def _scale_sums(
    grad,
    hidden,
    sums,
    positions,
    chunks,
    WIDE: tl.constexpr,
    RUN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    EXACT: tl.constexpr,
):
    first, last, c, there, image, number = _place(positions, chunks, WIDE, RUN, BLOCK)
    total = tl.full((ROWS, BLOCK), 0, sums.dtype.element_ty)
    for row in range(first, last, ROWS):
        places, seen = _tile(row, last, image, positions, c, there, WIDE, ROWS)
        h = tl.load(hidden + places, mask=seen, other=0).to(total.dtype)
        d = tl.load(grad + places, mask=seen, other=0).to(total.dtype)
        total += d * (h * _normal(h, EXACT)[0])
    tl.store(sums + number.to(tl.int64) * WIDE + c, _sum(total, 0), mask=there)


@triton.jit(do_not_specialize=["chunks"])
def _scale_backward(sums, gx, gamma, scale, through, dgamma, chunks, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    image = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    there, place = c < WIDE, image * WIDE + c
    dscale = _whole_image(sums, image, chunks, c, there, WIDE)
    norm = tl.load(gx + place, mask=there, other=0)
    g = tl.load(gamma + c, mask=there, other=0)
    mean = _sum(norm, 0) / WIDE + GRN_EPSILON
    nx = norm / mean
    dnx = dscale * g
    dgx = (dnx - _sum(dnx * nx, 0) / WIDE) / mean
    tl.store(scale + place, 1 + g * nx, mask=there)
    # A norm's own gradient is a / Gx, and 0 where the norm is 0.
    tl.store(through + place, tl.where(norm > 0, dgx / tl.where(norm > 0, norm, 1), 0), mask=there)
    tl.store(dgamma + place, dscale * nx, mask=there)


@triton.jit(do_not_specialize=POINTWISE_SIZES)
def _apply_backward(
    grad,
    hidden,
    scale,
    through,
    beta,
    out,
    sums,
    positions,
    chunks,
    WIDE: tl.constexpr,
    RUN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    EXACT: tl.constexpr,
    GRN: tl.constexpr,
):
    first, last, c, there, image, number = _place(positions, chunks, WIDE, RUN, BLOCK)
    total = tl.full((ROWS, BLOCK), 0, sums.dtype.element_ty)
    if GRN:
        factor = tl.load(scale + image * WIDE + c, mask=there)[None, :]
        norm = tl.load(through + image * WIDE + c, mask=there)[None, :]
        shift = tl.load(beta + c, mask=there).to(factor.dtype)[None, :]
    for row in range(first, last, ROWS):
        places, seen = _tile(row, last, image, positions, c, there, WIDE, ROWS)
        h = tl.load(hidden + places, mask=seen, other=0).to(total.dtype)
        d = tl.load(grad + places, mask=seen, other=0).to(total.dtype)
        below, density = _normal(h, EXACT)
        a = h * below
        if GRN:
            d = d * factor + a * norm
            a = a * factor + shift
        d *= below + h * density
        total += d
        tl.store(grad + places, d.to(grad.dtype.element_ty), mask=seen)
        tl.store(out + places, a.to(out.dtype.element_ty), mask=seen)
    tl.store(sums + number.to(tl.int64) * WIDE + c, _sum(total, 0), mask=there)


@triton.jit
def _place(positions, chunks, WIDE: tl.constexpr, RUN: tl.constexpr, BLOCK: tl.constexpr):
    """A program's positions, from and to; its channels, and which are there; its image, and the run's number."""
    blocks: tl.constexpr = (WIDE + BLOCK - 1) // BLOCK
    number = tl.program_id(0) // blocks
    c = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    first = number % chunks * RUN
    return first, tl.minimum(first + RUN, positions), c, c < WIDE, number // chunks, number


@triton.jit
def _tile(row, last, image, positions, c, there, WIDE: tl.constexpr, ROWS: tl.constexpr):
    """Addresses of ROWS positions of the channels, and which of them are there."""
    rows = row + tl.arange(0, ROWS)
    places = (image.to(tl.int64) * positions + rows)[:, None] * WIDE + c[None, :]
    return places, (rows < last)[:, None] & there[None, :]


@triton.jit
def _whole_image(sums, image, chunks, c, there, WIDE: tl.constexpr):
    """Add up the sums of an image's runs of positions."""
    total = tl.full(c.shape, 0, sums.dtype.element_ty)
    for chunk in range(chunks):
        total += tl.load(sums + (image * chunks + chunk).to(tl.int64) * WIDE + c, mask=there, other=0)
    return total


# Not `tl.sum`, nor another module's: tests interpret a module, and what it calls of others is compiled code.
@triton.jit
def _sum(values, axis: tl.constexpr):
    return tl.reduce(values, axis, _add)


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _normal(h, EXACT: tl.constexpr):
    """The normal distribution's probability below `h`, and its density there: GELU is `h` times the first.

    For types of half the width, the first by Abramowitz and Stegun, 26.2.17, of which the error is under 7.5e-8: it
    takes half the instructions, and these kernels would wait for the arithmetic otherwise, not for the memory.
    """
    density = tl.exp(-0.5 * h * h) * 0.3989422804014327
    if EXACT:
        return 0.5 * (1 + tl.erf(h * 0.7071067811865476)), density
    t = 1 / (1 + 0.2316419 * tl.abs(h))
    tail = 1.781477937 + t * (-1.821255978 + t * 1.330274429)
    tail = density * t * (0.319381530 + t * (-0.356563782 + t * tail))
    return tl.where(h < 0, tail, 1 - tail), density
