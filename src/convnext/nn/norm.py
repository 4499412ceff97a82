"""Normalisation layers of ConvNeXt. All act on channels-last tensors `[N, ..., C]`.

All accumulate in fp32 whatever the input's type: `torch.nn.LayerNorm` does so by itself, and the others
ask for it, because a sum of squares overflows fp16 from activations of 256 on. All give the input's type, under
autocast the autocast's: activations are as wide on a GPU as on a CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from convnext.nn.exporting import is_exporting
from convnext.nn.triton import available as gpu

EPS = 1e-6  # of all
OWN_ELEMENTS = 2**20  # of a tensor on CUDA, from which our kernels pay


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis; the papers' eps is 1e-6."""

    def __init__(self, dim: int, eps: float = EPS) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, ..., C]` to the same shape."""
        if x.device.type != "cuda":
            return super().forward(x)
        if torch.is_autocast_enabled("cuda"):
            x = x.to(torch.get_autocast_dtype("cuda"))
        if takes_kernel(x):
            return _LayerNorm.apply(x.contiguous(), self.weight, self.bias, self.eps)
        with torch.autocast("cuda", enabled=False):  # which would take fp32, and give it
            weight, bias = (t.to(x.dtype) for t in (self.weight, self.bias))
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class ScaleNorm(nn.Module, ABC):
    """A norm over the last axis that scales by a weight, and neither centres nor shifts."""

    def __init__(self, dim: int, eps: float = EPS) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    @abstractmethod
    def square(self, x: Tensor) -> Tensor:
        """The square of the divisor, `[N, ..., 1]`, of features `[N, ..., C]` in fp32 or more."""

    def forward(self, x: Tensor) -> Tensor:
        """`[N, ..., C]` to the same shape."""
        if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
            x = x.to(torch.get_autocast_dtype("cuda"))
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(self.square(wide) + self.eps) * self.weight).to(x.dtype)


class RMSNorm(ScaleNorm):
    """Divides by the root of the mean square over channels (timm's `rmsnorm2d`)."""

    def square(self, x: Tensor) -> Tensor:
        return x.square().mean(-1, keepdim=True)


class StdNorm(ScaleNorm):
    """Divides by the standard deviation over channels, of the unbiased variance (timm's `simplenorm`)."""

    def square(self, x: Tensor) -> Tensor:
        return x.var(-1, keepdim=True)


def takes_kernel(x: Tensor) -> bool:
    """Whether LayerNorm of a tensor on CUDA is our kernel. A compiler's own code is as good; and PyTorch's kernel takes
    less time to start, which counts where there are few elements."""
    return (
        x.numel() >= OWN_ELEMENTS and not (torch.compiler.is_compiling() or is_exporting()) and gpu.triton_available()
    )


class _LayerNorm(torch.autograd.Function):
    """LayerNorm over the last axis by the Triton kernels, which take weights of any type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        out, mean, inverse = torch.ops.convnext.layer_norm(x.view(-1, x.shape[-1]), weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        rows = (-1, x.shape[-1])
        found = torch.ops.convnext.layer_norm_backward(
            grad.contiguous().view(rows), x.view(rows), weight, mean, inverse
        )
        dx, dweight, dbias = found
        return dx.view(x.shape), dweight.to(weight.dtype), dbias.to(weight.dtype), None


def grn_scale(gx: Tensor, gamma: Tensor) -> Tensor:
    """`1 + gamma * Nx` from `Gx`, `[N, ..., C]` in fp32 or more: GRN is this scale and the shift beta."""
    return 1 + gamma.to(gx.dtype) * (gx / (gx.mean(dim=-1, keepdim=True) + EPS))


class GRN(nn.Module):
    """Global Response Normalization (ConvNeXt V2, section 3, algorithm 1).

    `Gx` is the L2 norm of each channel over all positions of one image, `Nx` is `Gx` divided by
    its mean over channels, and the output is `gamma * (x * Nx) + beta + x`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, ..., C]` to the same shape and type; the axes between are the positions of one image."""
        positions = tuple(range(1, x.ndim - 1))
        gx = torch.linalg.vector_norm(x, dim=positions, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        return torch.addcmul(self.beta.to(x.dtype), x, grn_scale(gx, self.gamma).to(x.dtype))


def column_sums(x: Tensor) -> Tensor:
    """Sums over all axes but the last, `[..., C]` to `[C]`, in fp32 or more."""
    if x.device.type == "cuda" and takes_kernel(x):
        return torch.ops.convnext.column_sums(x.reshape(-1, x.shape[-1]).contiguous())
    return x.flatten(0, -2).sum(0, dtype=torch.promote_types(x.dtype, torch.float32))


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    from convnext.nn.triton import norm

    return norm.layer_norm(x, weight, bias, eps)


def _norm_backward(grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, ...]:
    from convnext.nn.triton import norm

    return norm.layer_norm_backward(grad, x, weight, mean, inverse)


def _sums(x: Tensor) -> Tensor:
    from convnext.nn.triton import norm

    return norm.triton_column_sums(x)


def _full(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=torch.promote_types(x.dtype, torch.float32))


_library = torch.library.Library("convnext", "FRAGMENT")
_library.define("layer_norm(Tensor x, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor, Tensor)")
_library.define(
    "layer_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor mean, Tensor inverse) -> (Tensor, Tensor, Tensor)"
)
_library.define("column_sums(Tensor x) -> Tensor")
_library.impl("layer_norm", _norm, "CUDA")
_library.impl("layer_norm_backward", _norm_backward, "CUDA")
_library.impl("column_sums", _sums, "CUDA")
torch.library.register_fake(
    "convnext::layer_norm", lambda x, *_: (torch.empty_like(x), _full(x, len(x)), _full(x, len(x))), lib=_library
)
torch.library.register_fake(
    "convnext::layer_norm_backward",
    lambda _, x, *__: (torch.empty_like(x), _full(x, x.shape[1]), _full(x, x.shape[1])),
    lib=_library,
)
torch.library.register_fake("convnext::column_sums", lambda x: _full(x, x.shape[1]), lib=_library)
