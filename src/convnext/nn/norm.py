"""Normalisation layers of ConvNeXt. Both act on channels-last tensors `[N, ..., C]`.

Both accumulate in fp32 whatever the input's type: `torch.nn.LayerNorm` does so by itself, and GRN
asks for it, because a sum of squares overflows fp16 from activations of 256 on. Both give the input's type, under
autocast the autocast's: activations are as wide on a GPU as on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6  # of both


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last axis with the papers' eps of 1e-6."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, ..., C]` to the same shape."""
        if not (x.device.type == "cuda" and torch.is_autocast_enabled("cuda")):
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", enabled=False):  # which would take fp32, and give it
            return F.layer_norm(
                x.to(dtype), self.normalized_shape, self.weight.to(dtype), self.bias.to(dtype), self.eps
            )


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
