"""Stems and downsampling layers (ConvNeXt, sections 2.2 and 2.6).

All act on channels-last tensors: whole maps `[N, H, W, C]`, or visible patches `[N, V, p, p, C]`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from convnext.nn.visible_patches import VisiblePatches

NormLayer = Callable[[int], nn.Module]
"""Builds a normalisation layer of so many channels."""


class PatchConv(nn.Conv2d):
    """Convolution with stride = kernel, `[..., H, W, in]` to `[..., H/patch, W/patch, out]`."""

    def __init__(self, in_dim: int, out_dim: int, patch: int) -> None:
        super().__init__(in_dim, out_dim, patch, stride=patch)

    def forward(self, x: Tensor, patches: VisiblePatches | None = None) -> Tensor:
        if x.ndim == 4:
            # Where a library gives channels-first memory, one copy here saves one in each layer to come.
            return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
        # Visible patches are many small maps, for which convolution kernels are not made: a matrix product.
        side = self.kernel_size[0]
        squares = x.unflatten(-2, (-1, side)).unflatten(-4, (-1, side)).transpose(-4, -3).flatten(-3)
        return F.linear(squares, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)


class OverlapConv(nn.Conv2d):
    """Convolution 3×3 of stride 2, padded by zeros, `[..., H, W, in]` to `[..., H/2, W/2, out]`."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor, patches: VisiblePatches | None = None) -> Tensor:
        """Convolve a map; visible patches are convolved as whole maps that are zero at hidden positions."""
        if patches is not None:
            return patches.cut(self(patches.fill(x)))
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


class Downsample(nn.Sequential):
    """Convolutions, norms and activations in turn; convolutions are told where visible patches lie."""

    def forward(self, x: Tensor, patches: VisiblePatches | None = None) -> Tensor:
        for layer in self.children():
            x = layer(x, patches) if isinstance(layer, nn.Conv2d) else layer(x)
        return x


def patch_stem(in_chans: int, dim: int, patch: int, norm: NormLayer) -> Downsample:
    """The papers' stem: patches of `patch`×`patch` pixels, and a norm."""
    return Downsample(PatchConv(in_chans, dim, patch), norm(dim))


def overlap_stem(
    in_chans: int, dim: int, norm: NormLayer, *, hidden: int | None = None, gelu: bool = False
) -> Downsample:
    """timm's stems of stride 4: two 3×3 convolutions of stride 2, and a norm.

    Args:
        in_chans: channels of the images.
        dim: channels of the first stage.
        norm: the kind of normalisation.
        hidden: channels between the two; `dim` if None.
        gelu: a GELU between the two.
    """
    hidden = hidden or dim
    layers = OrderedDict[str, nn.Module]()
    layers["0"] = OverlapConv(in_chans, hidden)
    if gelu:
        layers["act"] = nn.GELU()
    layers["overlap"] = OverlapConv(hidden, dim)
    layers["1"] = norm(dim)
    return Downsample(layers)
