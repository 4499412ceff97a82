"""The ConvNeXt block, V1 and V2 (ConvNeXt V2, figure 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.nn.depthwise.layer import DepthwiseConv
from convnext.nn.downsample import Norm
from convnext.nn.norm import GRN, LayerNorm
from convnext.nn.pointwise import mlp, takes_operator
from convnext.nn.visible_patches import VisiblePatches


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a residual branch for each image with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * mask.div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class Block(nn.Module):
    """Depthwise 7x7, LayerNorm, Linear to 4C, GELU, GRN (V2), Linear to C, LayerScale (V1), added to the input.

    Args:
        dim: channels, C.
        version: 2 has GRN; 1 has LayerScale instead.
        norm: builds the norm, from its channels.
        drop_path: probability of dropping the branch in training.
        layer_scale_init: first value of V1's LayerScale; 0 leaves LayerScale out.
    """

    def __init__(
        self,
        dim: int,
        *,
        version: int = 2,
        norm: Norm = LayerNorm,
        drop_path: float = 0.0,
        layer_scale_init: float = 1e-6,
    ) -> None:
        super().__init__()
        self.dwconv = DepthwiseConv(dim)
        self.norm = norm(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.grn = GRN(4 * dim) if version == 2 else None
        self.pwconv2 = nn.Linear(4 * dim, dim)
        scaled = version == 1 and layer_scale_init > 0
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale_init)) if scaled else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, patches: VisiblePatches | None = None) -> Tensor:
        """`[N, H, W, C]` to the same shape; or visible patches `[N, V, p, p, C]`, with the places where they lie."""
        branch = self.mlp(self.norm(self.dwconv(x, patches)))
        if self.gamma is not None:
            branch = branch * self.gamma.to(branch.dtype)
        return x + self.drop_path(branch)

    def mlp(self, x: Tensor) -> Tensor:
        """The pointwise part, `[N, ..., C]` to the same shape; nothing in it but GRN looks beyond one position."""
        grn = self.grn
        if takes_operator(x, self.pwconv1, grn, self.pwconv2):
            gamma, beta = (None, None) if grn is None else (grn.gamma, grn.beta)
            return mlp(x, self.pwconv1.weight, self.pwconv1.bias, gamma, beta, self.pwconv2.weight, self.pwconv2.bias)
        x = F.gelu(self.pwconv1(x))
        if grn is not None:
            x = grn(x)
        return self.pwconv2(x)
