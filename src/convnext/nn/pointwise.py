"""The pointwise half of the block (Linear, GELU, GRN, Linear) as one operator.

On a CPU it takes a few images at a time. Layer by layer, every pass reads and writes activations four times as wide as
the block's input, which no cache holds: more time goes into moving them, and into the system's handing out fresh memory
for them, than into the two matrix products. GRN looks no further than one image. So here a group of images small enough
for the cache goes through all four layers before the next one starts, in memory that is used again. The backward pass
goes the same way, and recomputes GELU and GRN from the one wide tensor that was kept, where autograd would keep four.

On CUDA all images go through a layer together, with kernels in Triton between the products (`nn.triton.pointwise`).

Both passes are operators of their own (`torch.ops.convnext.mlp_*`), so that `torch.compile` takes each as one
node instead of tracing the loop. The formulas are those of `Block.mlp` and `GRN`, which all else runs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from convnext.nn.exporting import is_exporting
from convnext.nn.norm import EPS, GRN, grn_scale
from convnext.nn.triton import available as gpu
from convnext.nn.workspace import workspace

POINTWISE_GROUP = 2**19  # wide activations per thread that go through together: 2 MB in fp32, a core's L2 cache
CACHE_ELEMENTS = 2**20  # wide activations of a call below which groups do not pay by themselves
MIN_ROWS = 1024  # positions below which a matrix product loses more than the cache gives


def images_per_group(positions: int, wide: int) -> int:
    """How many images of so many positions, `wide` channels each, go through together; at least 1."""
    rows = max(MIN_ROWS, POINTWISE_GROUP * torch.get_num_threads() // wide)
    return max(1, rows // positions)


def mlp_forward(
    x: Tensor, w1: Tensor, b1: Tensor, gamma: Tensor | None, beta: Tensor | None, w2: Tensor, b2: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`pwconv2(grn(gelu(pwconv1(x))))`: `[N, P, C]` to the same shape and type, whatever the weights' type.

    Returns also what the backward pass needs, if it is to `keep` it: the first Linear's output `[N, P, 4C]`
    and GRN's `Gx` `[N, 4C]`; empty otherwise.
    """
    images, positions, dim = x.shape
    wide = w1.shape[0]
    w1, b1, w2, b2 = (t.to(x.dtype) for t in (w1, b1, w2, b2))
    group = images_per_group(positions, wide)
    chunk = -(-positions // max(1, positions * wide // (POINTWISE_GROUP * torch.get_num_threads())))
    out = torch.empty_like(x)
    kept = x.new_empty(images if keep else 0, positions, wide)
    norms = x.new_empty(images if keep and gamma is not None else 0, wide, dtype=torch.float32)
    for first in range(0, images, group):
        here = slice(first, min(first + group, images))
        n = here.stop - first
        active = workspace.take("active", (n, positions, wide), x.dtype)
        hidden = kept[here] if keep else active
        squares = None
        # More than one chunk of positions only where the group is a single large image: chunks are contiguous.
        for start in range(0, positions, chunk if n == 1 else positions):
            part = slice(start, start + chunk if n == 1 else positions)
            h, a = hidden[:, part], active[:, part]
            torch.addmm(b1, x[here, part].view(-1, dim), w1.t(), out=h.view(-1, wide))
            torch.ops.aten.gelu.out(h, out=a)
            if gamma is not None:
                squares = _accumulate_products(squares, a, a)
        if gamma is not None and beta is not None and squares is not None:
            gx = squares.sqrt_()
            if keep:
                norms[here] = gx
            scale = grn_scale(gx, gamma).to(x.dtype).unsqueeze(1)
            torch.addcmul(beta.to(x.dtype), active, scale, out=active)
        torch.addmm(b2, active.view(-1, wide), w2.t(), out=out[here].view(-1, dim))
    return out, kept, norms


def mlp_backward(
    grad: Tensor,
    x: Tensor,
    hidden: Tensor,
    norms: Tensor,
    w1: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    w2: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, w1, b1, gamma, beta, w2, b2 from that of the output; sums over positions are in fp32."""
    images, positions, dim = x.shape
    wide = w1.shape[0]
    full, weight_type = torch.float32, w1.dtype
    w1, w2 = w1.to(x.dtype), w2.to(x.dtype)
    grad = grad.contiguous()
    group = images_per_group(positions, wide)
    dx = torch.empty_like(x)
    dw1, dw2 = (torch.zeros_like(w, dtype=full) for w in (w1, w2))
    db1, dgamma = (x.new_zeros(wide, dtype=full) for _ in range(2))
    db2 = grad.sum(dim=(0, 1), dtype=full)
    dbeta = db2 @ w2.to(full)
    for first in range(0, images, group):
        here = slice(first, min(first + group, images))
        shape = (here.stop - first, positions, wide)
        a, da = (workspace.take(name, shape, x.dtype) for name in ("active", "gradient"))
        h, dout = hidden[here], grad[here].view(-1, dim)
        torch.ops.aten.gelu.out(h, out=a)
        torch.mm(dout, w2, out=da.view(-1, wide))
        normed = a
        if gamma is not None and beta is not None:
            gx = norms[here]
            mean = gx.mean(dim=-1, keepdim=True) + EPS
            nx = gx / mean
            dscale = _accumulate_products(None, da, a)
            dgamma += (dscale * nx).sum(dim=0)
            dnx = dscale * gamma
            dgx = (dnx - (dnx * nx).mean(dim=-1, keepdim=True)) / mean
            # A norm's own gradient is a / Gx, and 0 where the norm is 0.
            through_norm = torch.where(gx > 0, dgx / gx, 0.0).to(x.dtype).unsqueeze(1)
            scale = grn_scale(gx, gamma).to(x.dtype).unsqueeze(1)
            normed = torch.addcmul(beta.to(x.dtype), a, scale, out=workspace.take("normed", shape, x.dtype))
            da.mul_(scale).addcmul_(a, through_norm)
        _accumulate_matmul(dw2, dout.t(), normed.view(-1, wide))
        torch.ops.aten.gelu_backward.grad_input(da, h, grad_input=da)
        dh = da.view(-1, wide)
        db1 += dh.sum(dim=0, dtype=full)
        _accumulate_matmul(dw1, dh.t(), x[here].view(-1, dim))
        torch.mm(dh, w1, out=dx[here].view(-1, dim))
    dw1, db1, dw2, db2 = (t.to(weight_type) for t in (dw1, db1, dw2, db2))
    return dx, dw1, db1, dgamma, dbeta, dw2, db2


def _accumulate_products(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """Add the sum of `a * b` over positions, `[n, P, 4C]` to `[n, 4C]`, in fp32 whatever their type."""
    buffer = workspace.take("products", tuple(a.shape), torch.float32)
    products = torch.mul(a, b, out=buffer) if a.dtype == torch.float32 else buffer.copy_(a).mul_(b)
    return products.sum(dim=1) if total is None else total.add_(products.sum(dim=1))


def _accumulate_matmul(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add `a @ b` to an fp32 `total`, whatever their type."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, gamma: Tensor | None, beta: Tensor | None, w2: Tensor, b2: Tensor
    ) -> Tensor:
        out, hidden, norms = torch.ops.convnext.mlp_forward(x, w1, b1, gamma, beta, w2, b2, True)
        ctx.save_for_backward(x, hidden, norms, w1, gamma, beta, w2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, norms, w1, gamma, beta, w2 = ctx.saved_tensors
        dx, dw1, db1, *dgrn, dw2, db2 = torch.ops.convnext.mlp_backward(grad, x, hidden, norms, w1, gamma, beta, w2)
        return (dx, dw1, db1, *((None, None) if gamma is None else dgrn), dw2, db2)


def takes_operator(x: Tensor, pwconv1: nn.Module, grn: nn.Module | None, pwconv2: nn.Module) -> bool:
    """Whether `mlp` may stand for the layers, and pays: a type the operator has, and nobody looking inside."""
    if is_exporting():
        return False
    for layer in (pwconv1, grn, pwconv2):
        if type(layer) not in (nn.Linear, GRN, type(None)):
            return False
        if layer is not None and (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks):
            return False
    kind = x.device.type
    if kind not in ("cpu", "cuda"):
        return False
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    if kind == "cuda":  # the compiler's own code was measured as good there (docs/results.md), and starts faster
        known = dtype in (torch.float32, torch.bfloat16, torch.float16)
        return known and not torch.compiler.is_compiling() and gpu.triton_available()
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    full, large = dtype == torch.float32, 4 * x.numel() > CACHE_ELEMENTS
    if torch.compiler.is_compiling():
        # Within the cache and for inference the compiler's code is as good; in bf16 it is better.
        return full and large and torch.is_grad_enabled()
    return large or grn is not None  # PyTorch's norm over positions is slow at any size and in any type


def mlp(x: Tensor, w1: Tensor, b1: Tensor, gamma: Tensor | None, beta: Tensor | None, w2: Tensor, b2: Tensor) -> Tensor:
    """`[N, ..., C]` to the same shape; gamma and beta are GRN's, None in V1."""
    rows = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]).contiguous()
    if torch.is_autocast_enabled(x.device.type):
        rows = rows.to(torch.get_autocast_dtype(x.device.type))
    if gamma is not None and beta is not None:
        gamma, beta = gamma.flatten(), beta.flatten()
    if torch.is_grad_enabled():
        out = _MLP.apply(rows, w1, b1, gamma, beta, w2, b2)
    else:
        out, _, _ = torch.ops.convnext.mlp_forward(rows, w1, b1, gamma, beta, w2, b2, False)
    return out.view(x.shape)


def _cuda_forward(*arguments: Any) -> tuple[Tensor, ...]:
    from convnext.nn.triton import pointwise

    return pointwise.triton_mlp_forward(*arguments)


def _cuda_backward(*arguments: Any) -> tuple[Tensor, ...]:
    from convnext.nn.triton import pointwise

    return pointwise.triton_mlp_backward(*arguments)


def _fake_forward(
    x: Tensor, w1: Tensor, b1: Tensor, gamma: Tensor | None, beta: Tensor | None, w2: Tensor, b2: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    (images, positions, _), wide = x.shape, w1.shape[0]
    norms = x.new_empty(images if keep and gamma is not None else 0, wide, dtype=torch.float32)
    return torch.empty_like(x), x.new_empty(images if keep else 0, positions, wide), norms


def _fake_backward(
    grad: Tensor, x: Tensor, hidden: Tensor, norms: Tensor, w1: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    wide, dim = w1.shape
    dgamma, dbeta = (x.new_empty(wide, dtype=torch.float32) for _ in range(2))
    return (
        torch.empty_like(x),
        torch.empty_like(w1),
        w1.new_empty(wide),
        dgamma,
        dbeta,
        w1.new_empty(dim, wide),
        w1.new_empty(dim),
    )


_library = torch.library.Library("convnext", "FRAGMENT")
_library.define(
    "mlp_forward(Tensor x, Tensor w1, Tensor b1, Tensor? gamma, Tensor? beta, Tensor w2, Tensor b2, bool keep)"
    " -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "mlp_backward(Tensor grad, Tensor x, Tensor hidden, Tensor norms, Tensor w1, Tensor? gamma, Tensor? beta,"
    " Tensor w2) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.impl("mlp_forward", mlp_forward, "CPU")
_library.impl("mlp_backward", mlp_backward, "CPU")
_library.impl("mlp_forward", _cuda_forward, "CUDA")
_library.impl("mlp_backward", _cuda_backward, "CUDA")
torch.library.register_fake("convnext::mlp_forward", _fake_forward, lib=_library)
torch.library.register_fake("convnext::mlp_backward", _fake_backward, lib=_library)
