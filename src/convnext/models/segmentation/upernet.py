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
from convnext.nn.exporting import is_exporting
from convnext.nn.norm import LayerNorm
from convnext.nn.parameters import BACKBONE

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

    def forward(self, x: Tensor, *smaller: Tensor) -> Tensor:
        """`x` beside `smaller` maps enlarged to its size: `[N, inputs, H, W]` in all to `[N, outputs, H, W]`."""
        if not smaller:
            return F.relu(self.norm(self.conv(x)))
        weight, *others = self.conv.weight.split([part.shape[1] for part in (x, *smaller)], dim=1)
        own = F.conv2d(x, weight, padding=self.conv.padding)
        return F.relu(self.norm(own + enlarged_conv(smaller, others, x.shape[2:])))


def enlarged_conv(maps: Sequence[Tensor], weights: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The sum of maps' 3×3 convolutions after each is enlarged (`resize_map`), which is not done before them.

    To mix channels and to enlarge can change places. So each of a kernel's nine taps mixes the channels of the small
    map; enlarging and shifting what comes out takes a matrix over the columns and one over the rows.

    Args:
        maps: `[N, C_i, h_i, w_i]`.
        weights: `[O, C_i, 3, 3]`.
        size: height and width of what comes out, `[N, O, H, W]`.
    """
    height, width = size
    wide, rows = [], []
    for x, weight in zip(maps, weights, strict=True):
        n, _, h, w = x.shape
        outputs, last = weight.shape[0], x.permute(0, 2, 3, 1)
        for taps, over in zip(weight.unbind(2), enlarging(h, height, x), strict=True):
            mixed = last @ taps.permute(1, 2, 0).flatten(1)  # [N, h, w, 3 O]
            along = torch.stack(enlarging(w, width, x), dim=2).flatten(1)  # [W, 3 w]
            wide.append((along @ mixed.view(n * h, 3 * w, outputs)).view(n, h, width * outputs))
            rows.append(over)
    summed = torch.cat(rows, dim=1) @ torch.cat(wide, dim=1)
    return summed.view(n, height, width, outputs).permute(0, 3, 1, 2)


def enlarging(inputs: int, outputs: int, like: Tensor) -> list[Tensor]:
    """Matrices `[outputs, inputs]` that enlarge a line, and shift it by the three taps of a kernel."""
    points = torch.eye(inputs, dtype=torch.float32, device=like.device)[None]
    line = F.interpolate(points, size=outputs, mode="linear", align_corners=False)[0].T
    padded = F.pad(line, (0, 0, 1, 1)).to(like.dtype)
    return [padded[tap : tap + outputs] for tap in range(3)]


def resize_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, to height and width."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """`resize_map` by two matrices, whose gradient of a few channels a CPU computes in a quarter of the time."""
    _, rows, _ = enlarging(x.shape[2], size[0], x)
    _, columns, _ = enlarging(x.shape[3], size[1], x)
    return (rows @ x.contiguous()) @ columns.T


def pool_by_matrices(x: Tensor, side: int) -> Tensor:
    """`adaptive_avg_pool2d`, which exporters fix at the size that they trace."""
    rows, columns = (_means(length, side, x) for length in x.shape[2:])
    return rows @ x @ columns.T


def _means(inputs: int, outputs: int, like: Tensor) -> Tensor:
    """The matrix `[outputs, inputs]` of the means over nearly equal parts of a line."""
    place = torch.arange(inputs, device=like.device)
    part = torch.arange(outputs, device=like.device)[:, None]
    first, end = part * inputs // outputs, ((part + 1) * inputs + outputs - 1) // outputs
    inside = ((place >= first) & (place < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


class PyramidPooling(nn.Module):
    """A map beside its means over grids of `pools` cells a side: `[N, inputs, H, W]` to `[N, dim, H, W]`."""

    def __init__(self, inputs: int, dim: int, norm: Norm, pools: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(pools)
        self.pools = nn.ModuleList(Conv(inputs, dim, 1, norm) for _ in pools)
        self.fuse = Conv(inputs + len(pools) * dim, dim, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        pool = pool_by_matrices if is_exporting() else F.adaptive_avg_pool2d
        means = [pool(x, side) for side in self.sides]
        pooled = [resize_map(conv(mean), x.shape[2:]) for conv, mean in zip(self.pools, means, strict=True)]
        return self.fuse(torch.cat([x, *pooled], dim=1))


class UperNet(nn.Module):
    """A segmenter.

    Args:
        backbone: gives the pyramid; its last norm and head are not used.
        num_classes: how many.
        fpn_dim: channels of the pyramid network.
        aux_dim: channels of the auxiliary head.
        dropout: before both classifying layers.
        head_norm: of the convolutions; "batch" is synchronised between processes on CUDA, "group" is for batches of
            one or two images.
        pools: sides of the pooled grids.
    """

    parameter_rules = BACKBONE.extended(
        (
            (r"^norms\.\d\.weight$", False),  # LayerNorms, one on each map
            (r"^(pooling|lateral|smooth|fuse|auxiliary|classify)\..*weight$", True),
        )
    )

    def __init__(
        self,
        backbone: ConvNeXt,
        *,
        num_classes: int,
        fpn_dim: int = 512,
        aux_dim: int = 256,
        dropout: float = 0.1,
        head_norm: Norm = "batch",
        pools: Sequence[int] = POOLS,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.depths = backbone.depths
        *early, last = backbone.dims
        self.norms = nn.ModuleList(LayerNorm(width) for width in backbone.dims)
        self.pooling = PyramidPooling(last, fpn_dim, head_norm, pools)
        self.lateral = nn.ModuleList(Conv(width, fpn_dim, 1, head_norm) for width in early)
        self.smooth = nn.ModuleList(Conv(fpn_dim, fpn_dim, 3, head_norm) for _ in early)
        self.fuse = Conv(len(backbone.dims) * fpn_dim, fpn_dim, 3, head_norm)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(fpn_dim, num_classes, 1))
        self.auxiliary = nn.Sequential(
            Conv(backbone.dims[2], aux_dim, 3, head_norm), nn.Dropout2d(dropout), nn.Conv2d(aux_dim, num_classes, 1)
        )

    def forward(self, images: Tensor) -> Any:
        """Normalised images `[N, 3, H, W]` of any height and width to logits `[N, classes, H, W]`; in training, with
        those of the auxiliary head."""
        height, width = images.shape[2:]
        # To the stride by the border's own pixels: with the backbone's even ones an upright edge would stand there.
        stride = self.backbone.total_stride
        right, below = ((side + stride - 1) // stride * stride - side for side in (width, height))
        maps = self.backbone(F.pad(images, (0, right, 0, below), mode="replicate"))
        maps = [norm(x).permute(0, 3, 1, 2) for norm, x in zip(self.norms, maps, strict=True)]
        logits = [self.classify(self.pyramid(maps))]
        if self.training:
            logits.append(self.auxiliary(maps[2]))
        padded = [4 * side for side in maps[0].shape[2:]]
        full = [enlarge(x, padded)[:, :, :height, :width] for x in logits]
        return full if self.training else full[0]

    def pyramid(self, maps: list[Tensor]) -> Tensor:
        """The backbone's four maps to one, `[N, fpn_dim, H / 4, W / 4]`."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=False)]
        levels.append(self.pooling(maps[-1]))
        for i in reversed(range(len(levels) - 1)):
            levels[i] = levels[i] + resize_map(levels[i + 1], levels[i].shape[2:])
        return self.fuse(*(layer(x) for layer, x in zip(self.smooth, levels, strict=False)), levels[-1])


def create_segmenter(name: str, *, num_classes: int, encoder: dict[str, Any] | None = None, **parts: Any) -> UperNet:
    """Build a segmenter on a model of the family: UperNet, with random heads.

    Args:
        name: one of `list_models()`, but for isotropic ones.
        num_classes: classes of pixels.
        encoder: arguments of `models.encoder.create_encoder`, by name: `weights`, `drop_path_rate`, ...
        parts: arguments of `UperNet`, by name: `fpn_dim`, `dropout`, ...

    Returns:
        A module that takes normalised images `[N, 3, H, W]` of any size, and gives logits `[N, num_classes, H, W]`; in
        training, a list of them and those of the auxiliary head.

    Raises:
        InputError: an unknown name, an isotropic model, or weights that do not fit.
    """
    return UperNet(create_encoder(name, **(encoder or {})), num_classes=num_classes, **parts)
