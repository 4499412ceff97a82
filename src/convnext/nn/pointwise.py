"""The pointwise half of the block (Linear, GELU, GRN, Linear) on a CPU, a few images at a time.

Written layer by layer, each of the four passes over activations four times as wide as the block's input,
which no cache holds: on a CPU more time goes into moving them than into the two matrix products. GRN looks
no further than one image, so here a group of images small enough for the cache goes through all four layers
before the next one starts, in buffers that are used again. The backward pass goes the same way and recomputes
GELU and GRN from the one wide tensor that was kept, where autograd would keep four.

The two passes are operators of their own (`torch.ops.convnext.mlp_*`), so that `torch.compile` takes each as
one node instead of tracing the loop.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

GROUP_ROWS = 1024  # positions per thread that go through together; a flat optimum from 800 to 1600


def _group(images: int, positions: int) -> int:
    return min(images, max(1, GROUP_ROWS * torch.get_num_threads() // positions))


def _grn_scale(gx: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """`1 + gamma * Nx` and the mean that `Nx` was divided by, from `Gx` `[N, 4C]`."""
    mean = gx.mean(dim=-1, keepdim=True) + 1e-6
    return 1 + gamma * (gx / mean), mean


def _sum_of_products(a: Tensor, b: Tensor, buffer: Tensor) -> Tensor:
    """Sum of `a * b` over the positions, in fp32: `[n, P, 4C]` twice to `[n, 4C]`; `buffer` is fp32 of their shape."""
    if a.dtype == torch.float32:
        return torch.mul(a, b, out=buffer).sum(dim=1)
    return buffer.copy_(a).mul_(b).sum(dim=1)


def mlp_forward(
    x: Tensor, w1: Tensor, b1: Tensor, gamma: Tensor | None, beta: Tensor | None, w2: Tensor, b2: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`[N, P, C]` to `[N, P, C]`; and, to `keep` for the backward pass, the first Linear's output and GRN's `Gx`."""
    images, positions, dim = x.shape
    wide = w1.shape[0]
    step = _group(images, positions)
    out = torch.empty_like(x)
    hidden = x.new_empty(images if keep else step, positions, wide)
    active = x.new_empty(step, positions, wide) if keep else hidden
    squares = x.new_empty(step, positions, wide, dtype=torch.float32)
    norms = x.new_empty(images if keep else step, wide, dtype=torch.float32)
    for first in range(0, images, step):
        n = min(step, images - first)
        kept = first if keep else 0
        h, a = hidden[kept : kept + n], active[:n]
        torch.addmm(b1, x[first : first + n].view(-1, dim), w1.t(), out=h.view(-1, wide))
        torch.ops.aten.gelu.out(h, out=a)
        if gamma is not None and beta is not None:
            gx = _sum_of_products(a, a, squares[:n]).sqrt_()
            norms[kept : kept + n] = gx
            scale, _ = _grn_scale(gx, gamma)
            torch.addcmul(beta, a, scale.to(a.dtype).unsqueeze(1), out=a)
        torch.addmm(b2, a.view(-1, wide), w2.t(), out=out[first : first + n].view(-1, dim))
    return out, hidden, norms


def mlp_backward(
    grad: Tensor, x: Tensor, hidden: Tensor, norms: Tensor, w1: Tensor, gamma: Tensor | None, beta: Tensor | None, w2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    images, positions, dim = x.shape
    wide = w1.shape[0]
    step = _group(images, positions)
    full = torch.float32
    dx = torch.empty_like(x)
    dw1, dw2 = torch.zeros_like(w1, dtype=full), torch.zeros_like(w2, dtype=full)
    db1, dgamma = x.new_zeros(wide, dtype=full), x.new_zeros(wide, dtype=full)
    db2 = grad.sum(dim=(0, 1), dtype=full)
    active, dactive, scaled = (x.new_empty(step, positions, wide) for _ in range(3))
    buffer = scaled if x.dtype == full else x.new_empty(step, positions, wide, dtype=full)

    def accumulate(total: Tensor, a: Tensor, b: Tensor) -> None:
        if total.dtype == a.dtype:
            total.addmm_(a, b)
        else:
            total.add_(a @ b)

    for first in range(0, images, step):
        n = min(step, images - first)
        h, a, da = hidden[first : first + n], active[:n], dactive[:n]
        g = grad[first : first + n].reshape(-1, dim)
        rows = x[first : first + n].view(-1, dim)
        torch.ops.aten.gelu.out(h, out=a)
        torch.mm(g, w2, out=da.view(-1, wide))
        if gamma is not None and beta is not None:
            gx = norms[first : first + n]
            scale, mean = _grn_scale(gx, gamma)
            dscale = _sum_of_products(da, a, buffer[:n])
            nx = gx / mean
            dgamma += (dscale * nx).sum(dim=0)
            dnx = dscale * gamma
            dgx = (dnx - (dnx * nx).mean(dim=-1, keepdim=True)) / mean
            # The norm's own gradient is a / Gx, and 0 where the norm is 0.
            through_norm = torch.where(gx > 0, dgx / gx, 0.0)
            scale, through_norm = scale.to(a.dtype).unsqueeze(1), through_norm.to(a.dtype).unsqueeze(1)
            z = torch.addcmul(beta, a, scale, out=scaled[:n])
            accumulate(dw2, g.t(), z.view(-1, wide))
            da.mul_(scale).addcmul_(a, through_norm)
        else:
            accumulate(dw2, g.t(), a.view(-1, wide))
        dh = torch.ops.aten.gelu_backward.grad_input(da, h, grad_input=da).view(-1, wide)
        db1 += dh.sum(dim=0, dtype=full)
        accumulate(dw1, dh.t(), rows)
        torch.mm(dh, w1, out=dx[first : first + n].view(-1, dim))
    dbeta = db2 @ w2.to(full)
    return dx, dw1.to(x.dtype), db1.to(x.dtype), dgamma, dbeta, dw2.to(x.dtype), db2.to(x.dtype)


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w1, b1, gamma, beta, w2, b2):
        out, hidden, norms = torch.ops.convnext.mlp_forward(x, w1, b1, gamma, beta, w2, b2, True)
        ctx.save_for_backward(x, hidden, norms, w1, gamma, beta, w2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, hidden, norms, w1, gamma, beta, w2 = ctx.saved_tensors
        dx, dw1, db1, dgamma, dbeta, dw2, db2 = torch.ops.convnext.mlp_backward(grad, x, hidden, norms, w1, gamma, beta, w2)
        if gamma is None:
            dgamma = dbeta = None
        return dx, dw1, db1, dgamma, dbeta, dw2, db2


_library = torch.library.Library("convnext", "FRAGMENT")
_library.define(
    "mlp_forward(Tensor x, Tensor w1, Tensor b1, Tensor? gamma, Tensor? beta, Tensor w2, Tensor b2, bool keep)"
    " -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "mlp_backward(Tensor grad, Tensor x, Tensor hidden, Tensor norms, Tensor w1, Tensor? gamma, Tensor? beta, Tensor w2)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.impl("mlp_forward", mlp_forward, "CPU")
_library.impl("mlp_backward", mlp_backward, "CPU")


@torch.library.register_fake("convnext::mlp_forward", lib=_library)
def _(x, w1, b1, gamma, beta, w2, b2, keep):
    images, positions, _ = x.shape
    step = images if keep else _group(images, positions)
    return torch.empty_like(x), x.new_empty(step, positions, w1.shape[0]), x.new_empty(step, w1.shape[0], dtype=torch.float32)


@torch.library.register_fake("convnext::mlp_backward", lib=_library)
def _(grad, x, hidden, norms, w1, gamma, beta, w2):
    wide, dim = w1.shape
    f = torch.float32
    return torch.empty_like(x), torch.empty_like(w1), x.new_empty(wide), x.new_empty(wide, dtype=f), x.new_empty(wide, dtype=f), torch.empty_like(w2), x.new_empty(dim)


def mlp(x, w1, b1, gamma, beta, w2, b2):
    """`pwconv2(grn(gelu(pwconv1(x))))`"""
    shape = x.shape
    x = x.reshape(shape[0], math.prod(shape[1:-1]), shape[-1])
    if torch.is_autocast_enabled("cpu"):
        d = torch.get_autocast_dtype("cpu")
        x, w1, b1, w2, b2 = (t.to(d) for t in (x, w1, b1, w2, b2))
    gamma, beta = (None, None) if gamma is None else (gamma.flatten(), beta.flatten())
    args = (x, w1, b1, gamma, beta, w2, b2)
    if torch.is_grad_enabled():
        out = _MLP.apply(*args)
    else:
        out = torch.ops.convnext.mlp_forward(*args, False)[0]
    return out.view(shape)
