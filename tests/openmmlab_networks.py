"""Networks of mmsegmentation, and the backbone of mmdetection's too, stated without this package.

Parameter names and formulas are theirs, sizes small: their files stand for the published ones in tests. Sources:
mmsegmentation's `UPerHead`, `FCNHead` and sliding test, mmpretrain's and the official ConvNeXt.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of `[N, C, H, W]`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        x = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ResponseNorm(nn.Module):
    """GRN of `[N, H, W, C]`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        length = x.square().sum((1, 2), keepdim=True).sqrt()
        share = length / (length.mean(-1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


class Block(nn.Module):
    """A block of V2 under mmpretrain's names, or of V1 under the official ones."""

    def __init__(self, dim: int, v2: bool) -> None:
        super().__init__()
        self.v2 = v2
        self.norm = ChannelNorm(dim)
        depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        first, second = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        if v2:
            self.depthwise_conv, self.pointwise_conv1, self.pointwise_conv2 = depthwise, first, second
            self.grn = ResponseNorm(4 * dim)
        else:
            self.dwconv, self.pwconv1, self.pwconv2 = depthwise, first, second
            self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        depthwise, first, second = (
            (self.depthwise_conv, self.pointwise_conv1, self.pointwise_conv2)
            if self.v2
            else (self.dwconv, self.pwconv1, self.pwconv2)
        )
        y = F.gelu(first(self.norm(depthwise(x)).permute(0, 2, 3, 1)))
        y = second(self.grn(y)) if self.v2 else second(y) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class Backbone(nn.Module):
    """Images to four normalised maps."""

    def __init__(self, depths: tuple[int, ...], dims: tuple[int, ...], v2: bool) -> None:
        super().__init__()
        later = [nn.Sequential(ChannelNorm(a), nn.Conv2d(a, b, 2, stride=2)) for a, b in itertools.pairwise(dims)]
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), ChannelNorm(dims[0])), *later]
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*[Block(dim, v2) for _ in range(n)]) for n, dim in zip(depths, dims, strict=True)
        )
        for i, dim in enumerate(dims):
            self.add_module(f"norm{i}", ChannelNorm(dim))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(downsample(x))
            maps.append(getattr(self, f"norm{i}")(x))
        return maps


class ConvModule(nn.Module):
    """mmcv's: a convolution, batch norm or none, ReLU or none."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bn: bool, relu: bool) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not bn), relu
        if bn:
            self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if hasattr(self, "bn"):
            x = self.bn(x)
        return x.relu() if self.relu else x


def resize(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class UPerHead(nn.Module):
    def __init__(self, dims: tuple[int, ...], dim: int, classes: int) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), ConvModule(dims[-1], dim, 1, bn=True, relu=True))
            for side in (1, 2, 3, 6)
        )
        self.bottleneck = ConvModule(dims[-1] + 4 * dim, dim, 3, bn=True, relu=True)
        self.lateral_convs = nn.ModuleList(ConvModule(d, dim, 1, bn=True, relu=True) for d in dims[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(dim, dim, 3, bn=True, relu=True) for _ in dims[:-1])
        self.fpn_bottleneck = ConvModule(4 * dim, dim, 3, bn=True, relu=True)
        self.conv_seg = nn.Conv2d(dim, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        last = maps[-1]
        pooled = [resize(module(last), last.shape[2:]) for module in self.psp_modules]
        levels = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=False)]
        levels.append(self.bottleneck(torch.cat([last, *pooled], 1)))
        for i in (3, 2, 1):
            levels[i - 1] = levels[i - 1] + resize(levels[i], levels[i - 1].shape[2:])
        outs = [*[conv(x) for conv, x in zip(self.fpn_convs, levels, strict=False)], levels[-1]]
        return self.conv_seg(self.fpn_bottleneck(torch.cat([resize(x, outs[0].shape[2:]) for x in outs], 1)))


class FCNHead(nn.Module):
    def __init__(self, inputs: int, dim: int, classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvModule(inputs, dim, 3, bn=True, relu=True))
        self.conv_seg = nn.Conv2d(dim, classes, 1)


class Segmenter(nn.Module):
    """UperNet."""

    def __init__(
        self, depths: tuple[int, ...], dims: tuple[int, ...], *, v2: bool, classes: int, dim: int = 16, aux: int = 8
    ) -> None:
        super().__init__()
        self.backbone, self.decode_head = Backbone(depths, dims, v2), UPerHead(dims, dim, classes)
        self.auxiliary_head = FCNHead(dims[2], aux, classes)

    @torch.no_grad()
    def forward(self, image: Tensor, window: int, stride: int) -> Tensor:
        """Mean logits `[classes, h, w]` of the windows over a normalised image `[3, h, w]`."""
        _, height, width = image.shape
        total, seen = torch.zeros(1), torch.zeros(1, height, width)
        for i in range(max(height - window + stride - 1, 0) // stride + 1):
            for j in range(max(width - window + stride - 1, 0) // stride + 1):
                bottom, right = min(i * stride + window, height), min(j * stride + window, width)
                top, left = max(bottom - window, 0), max(right - window, 0)
                part = image[None, :, top:bottom, left:right]
                logits = resize(self.decode_head(self.backbone(part)), part.shape[2:])[0]
                total = total + F.pad(logits, (left, width - right, top, height - bottom))
                seen[:, top:bottom, left:right] += 1
        return total / seen


LARGE = {"rpn_reg.weight": 0.3, "fc_reg.weight": 0.5, "fc_cls.weight": 0.5, "conv_seg.weight": 6.0}
"""Spread of what comes out of some layers; of others 1.4, which keeps activations of order one."""


BACKGROUND = 4.0
"""More of the background's logit, for fewer objects than are kept."""


def randomise(network: nn.Module, seed: int) -> None:
    """Random values of every tensor: boxes that stay in the image, and scores apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.5 * drawn.tanh())
            elif tensor.ndim == 1 and name.endswith((".weight", ".gamma")) and "grn" not in name:
                tensor.copy_(1 + 0.2 * drawn)
            elif name.endswith("fc_cls.bias"):
                tensor.copy_(0.2 * drawn)
                tensor[-1] += BACKGROUND
            elif tensor.ndim == 1:
                tensor.copy_(0.2 * drawn)
            else:
                spread = next((large for end, large in LARGE.items() if name.endswith(end)), 1.4)
                if name.endswith(("fc_cls.weight", "conv_seg.weight")):  # else one class would be everywhere
                    drawn -= drawn.mean(1, keepdim=True)
                tensor.copy_(spread * drawn / math.sqrt(tensor[0].numel()))
