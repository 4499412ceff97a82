"""UperNet on a ConvNeXt (Xiao et al. 2018; ConvNeXt, section 3.3): what every pixel shows.

The pyramid's four maps, a LayerNorm on each; pooling of the last one at four scales; a feature pyramid network; all
maps fused at a quarter of the image's sides. While it trains, a small head on the third map learns the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.models.encoder import create_encoder
from convnext.nn.backbone import ConvNeXt
from convnext.nn.norm import LayerNorm

Norm = Literal["batch", "group"]

POOLS = (1, 2, 3, 6)


def groups(channels: int) -> int:
    """32 groups, or fewer that divide the channels and have four each: one alone has no spread in a map of one cell."""
    return max(n for n in (1, 2, 4, 8, 16, 32) if channels % n == 0 and (n == 1 or channels >= 4 * n))


class Conv(nn.Module):
    """A convolution, its norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs) if norm == "batch" else nn.GroupNorm(groups(outputs), outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


def classifier(inputs: int, classes: int) -> nn.Conv2d:
    """One linear layer for every position."""
    layer = nn.Conv2d(inputs, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, to height and width."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class PyramidPooling(nn.Module):
    """A map beside its means over grids of `pools` cells a side: `[N, inputs, H, W]` to `[N, dim, H, W]`."""

    def __init__(self, inputs: int, dim: int, norm: Norm, pools: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(pools)
        self.pools = nn.ModuleList(Conv(inputs, dim, 1, norm) for _ in pools)
        self.fuse = Conv(inputs + len(pools) * dim, dim, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        means = [F.adaptive_avg_pool2d(x, side) for side in self.sides]
        pooled = [resize(conv(mean), x.shape[2:]) for conv, mean in zip(self.pools, means, strict=True)]
        return self.fuse(torch.cat([x, *pooled], dim=1))


class UperNet(nn.Module):
    """A segmenter.

    Args:
        backbone: gives the pyramid; its last norm and head are not used.
        classes: how many.
        dim: channels of the pyramid network.
        aux_dim: channels of the auxiliary head.
        dropout: before both classifying layers.
        norm: of the convolutions; "batch" is synchronised between processes on CUDA, "group" is for batches of one or
            two images.
        pools: sides of the pooled grids.
    """

    def __init__(
        self,
        backbone: ConvNeXt,
        *,
        classes: int,
        dim: int = 512,
        aux_dim: int = 256,
        dropout: float = 0.1,
        norm: Norm = "batch",
        pools: Sequence[int] = POOLS,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.depths = backbone.depths
        *early, last = backbone.dims
        self.norms = nn.ModuleList(LayerNorm(width) for width in backbone.dims)
        self.pooling = PyramidPooling(last, dim, norm, pools)
        self.lateral = nn.ModuleList(Conv(width, dim, 1, norm) for width in early)
        self.smooth = nn.ModuleList(Conv(dim, dim, 3, norm) for _ in early)
        self.fuse = Conv(len(backbone.dims) * dim, dim, 3, norm)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), classifier(dim, classes))
        self.auxiliary = nn.Sequential(
            Conv(backbone.dims[2], aux_dim, 3, norm), nn.Dropout2d(dropout), classifier(aux_dim, classes)
        )

    def forward(self, images: Tensor) -> Any:
        """Normalised images `[N, 3, H, W]` of any height and width to logits `[N, classes, H, W]`; in training, with
        those of the auxiliary head."""
        height, width = images.shape[2:]
        maps = self.backbone(images)  # which pads to its stride, at the right and bottom
        maps = [norm(x).permute(0, 3, 1, 2) for norm, x in zip(self.norms, maps, strict=True)]
        logits = [self.classify(self.pyramid(maps))]
        if self.training:
            logits.append(self.auxiliary(maps[2]))
        padded = [4 * side for side in maps[0].shape[2:]]
        full = [resize(x, padded)[:, :, :height, :width] for x in logits]
        return full if self.training else full[0]

    def pyramid(self, maps: list[Tensor]) -> Tensor:
        """The backbone's four maps to one, `[N, dim, H / 4, W / 4]`."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=False)]
        levels.append(self.pooling(maps[-1]))
        for i in reversed(range(len(levels) - 1)):
            levels[i] = levels[i] + resize(levels[i + 1], levels[i].shape[2:])
        size = levels[0].shape[2:]
        smooth = [*(layer(x) for layer, x in zip(self.smooth, levels, strict=False)), levels[-1]]
        return self.fuse(torch.cat([smooth[0], *(resize(x, size) for x in smooth[1:])], dim=1))


def create_segmenter(name: str, *, classes: int, encoder: dict[str, Any] | None = None, **parts: Any) -> UperNet:
    """A segmenter on a model of the family; `encoder` are arguments of `create_encoder`, `parts` of `UperNet`."""
    return UperNet(create_encoder(name, **(encoder or {})), classes=classes, **parts)
