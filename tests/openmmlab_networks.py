"""Networks of mmdetection and mmsegmentation, by their parameter names and formulas, stated without this package.

Small ones: their files stand for the published ones in tests. Sources: mmdetection's `FPN`, `AnchorGenerator`,
`DeltaXYWHBBoxCoder`, `RPNHead`, `SingleRoIExtractor`, `ConvFCBBoxHead`, `CascadeRoIHead`, `FCNMaskHead`, mmcv's
`soft_nms`, mmsegmentation's `UPerHead`, `FCNHead`, and the configurations that the published files were trained by.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (4, 8, 16, 32, 64)
DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
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


class FPN(nn.Module):
    def __init__(self, dims: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvModule(d, dim, 1, bn=False, relu=False) for d in dims)
        self.fpn_convs = nn.ModuleList(ConvModule(dim, dim, 3, bn=False, relu=False) for _ in dims)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        levels = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for i in (3, 2, 1):
            levels[i - 1] = levels[i - 1] + F.interpolate(levels[i], size=levels[i - 1].shape[2:], mode="nearest")
        outs = [conv(x) for conv, x in zip(self.fpn_convs, levels, strict=True)]
        return [*outs, outs[-1][:, :, ::2, ::2]]


class RPNHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rpn_conv, self.rpn_cls = nn.Conv2d(dim, dim, 3, padding=1), nn.Conv2d(dim, 3, 1)
        self.rpn_reg = nn.Conv2d(dim, 12, 1)

    def propose(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The thousand best boxes of an image."""
        boxes, scores, levels = [], [], []
        for level, (x, stride) in enumerate(zip(maps, STRIDES, strict=True)):
            x = self.rpn_conv(x).relu()
            score = self.rpn_cls(x)[0].permute(1, 2, 0).reshape(-1).sigmoid()
            codes = self.rpn_reg(x)[0].permute(1, 2, 0).reshape(-1, 4)
            best = score.argsort(descending=True)[:1000]
            boxes.append(decode(anchors(x.shape[2:], stride)[best], codes[best], (1, 1, 1, 1), size))
            scores.append(score[best])
            levels.append(torch.full_like(best, level))
        box, score, level = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        real = (box[:, 2:] > box[:, :2]).all(1)
        box, score, level = box[real], score[real], level[real]
        return box[nms(box, score, level, 0.7)[:1000]]


def anchors(shape: torch.Size, stride: int) -> Tensor:
    """Centred on the cells' first corners; at a point wide, square, tall."""
    rows = []
    for y in range(shape[0]):
        for x in range(shape[1]):
            for ratio in (0.5, 1.0, 2.0):
                w, h = 8 * stride / math.sqrt(ratio), 8 * stride * math.sqrt(ratio)
                rows.append((x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2))
    return torch.tensor(rows)


def decode(boxes: Tensor, codes: Tensor, deviations: tuple[float, ...], size: tuple[int, int]) -> Tensor:
    """Boxes `[n, 4]` moved by codes `[n, 4]`, inside an image of height and width."""
    dx, dy, dw, dh = (codes * torch.tensor(deviations)).unbind(1)
    limit = abs(math.log(16 / 1000))
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    cx, cy = (boxes[:, 0] + boxes[:, 2]) / 2 + dx * w, (boxes[:, 1] + boxes[:, 3]) / 2 + dy * h
    w, h = w * dw.clamp(-limit, limit).exp(), h * dh.clamp(-limit, limit).exp()
    xs = [(cx - w / 2).clamp(0, size[1]), (cx + w / 2).clamp(0, size[1])]
    ys = [(cy - h / 2).clamp(0, size[0]), (cy + h / 2).clamp(0, size[0])]
    return torch.stack([xs[0], ys[0], xs[1], ys[1]], dim=1)


def overlaps(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of one box and many."""
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])).clamp(min=0)
    both, area = sides.prod(1), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return both / ((box[2:] - box[:2]).prod() + area - both)


def nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Places of what no better box of its group overlaps by more, best first."""
    left, kept = scores.argsort(descending=True), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[(overlaps(boxes[best], boxes[left]) <= iou) | (groups[left] != groups[best])]
    return torch.tensor(kept, dtype=torch.int64)


def soft_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> tuple[Tensor, Tensor]:
    """The same, linear: overlapped boxes lose score instead; places and new scores."""
    left, values, kept, new = torch.arange(len(scores)), scores.clone(), [], []
    while len(left):
        best = left[values[left].argmax()]
        kept.append(int(best))
        new.append(float(values[best]))
        left = left[left != best]
        shared = overlaps(boxes[best], boxes[left])
        values[left] *= torch.where((shared >= iou) & (groups[left] == groups[best]), 1 - shared, torch.ones(1))
        left = left[values[left] >= 1e-3]
    return torch.tensor(kept, dtype=torch.int64), torch.tensor(new)


def extract(maps: list[Tensor], boxes: Tensor, side: int) -> Tensor:
    """RoIAlign, aligned, with as many points in a cell as it has of the map's; the level by the box's size."""
    pooled = []
    for box in boxes:
        x0, y0, x1, y1 = box.tolist()
        level = min(3, max(0, math.floor(math.log2(math.sqrt((x1 - x0) * (y1 - y0)) / 56 + 1e-6))))
        x, scale = maps[level], 1 / STRIDES[level]
        h, w = (y1 - y0) * scale, (x1 - x0) * scale
        rows, columns = max(1, math.ceil(h / side)), max(1, math.ceil(w / side))
        ys = y0 * scale - 0.5 + (torch.arange(side * rows) + 0.5) * (h / (side * rows))
        xs = x0 * scale - 0.5 + (torch.arange(side * columns) + 0.5) * (w / (side * columns))
        corners = [2 * at / (length - 1) - 1 for at, length in ((xs, x.shape[3]), (ys, x.shape[2]))]
        grid = torch.stack(torch.meshgrid(*corners, indexing="xy"), dim=-1)[None]
        points = F.grid_sample(x, grid, align_corners=True, padding_mode="border")
        pooled.append(F.avg_pool2d(points, (rows, columns))[0])
    return torch.stack(pooled)


class BoxHead(nn.Module):
    """Four convolutions and a linear layer (Cascade), or two linear layers."""

    def __init__(self, dim: int, hidden: int, classes: int, *, convs: int) -> None:
        super().__init__()
        self.shared_convs = nn.ModuleList(ConvModule(dim, dim, 3, bn=True, relu=True) for _ in range(convs))
        widths = [dim * 49, hidden] if convs else [dim * 49, hidden, hidden]
        self.shared_fcs = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.fc_cls, self.fc_reg = nn.Linear(hidden, classes + 1), nn.Linear(hidden, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv in self.shared_convs:
            x = conv(x)
        x = x.flatten(1)
        for layer in self.shared_fcs:
            x = layer(x).relu()
        return self.fc_cls(x), self.fc_reg(x)


class MaskHead(nn.Module):
    def __init__(self, dim: int, classes: int, convs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(dim, dim, 3, bn=False, relu=True) for _ in range(convs))
        self.upsample, self.conv_logits = nn.ConvTranspose2d(dim, dim, 2, stride=2), nn.Conv2d(dim, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(self.upsample(x).relu()).sigmoid()


class RoIHead(nn.Module):
    def __init__(self, dim: int, hidden: int, classes: int, *, cascade: bool, mask_convs: int) -> None:
        super().__init__()
        boxes = [BoxHead(dim, hidden, classes, convs=4 if cascade else 0) for _ in range(3 if cascade else 1)]
        masks = [MaskHead(dim, classes, mask_convs) for _ in boxes]
        self.bbox_head = nn.ModuleList(boxes) if cascade else boxes[0]
        self.mask_head = nn.ModuleList(masks) if cascade else masks[0]


class Found(NamedTuple):
    """Boxes `[n, 4]`, scores `[n]`, labels `[n]`, masks `[n, 28, 28]`."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


class Detector(nn.Module):
    """Mask R-CNN, or Cascade Mask R-CNN."""

    def __init__(
        self,
        depths: tuple[int, ...],
        dims: tuple[int, ...],
        *,
        v2: bool,
        cascade: bool,
        classes: int,
        dim: int = 16,
        hidden: int = 32,
        mask_convs: int = 1,
    ) -> None:
        super().__init__()
        self.cascade, self.soft = cascade, v2
        self.backbone, self.neck, self.rpn_head = Backbone(depths, dims, v2), FPN(dims, dim), RPNHead(dim)
        self.roi_head = RoIHead(dim, hidden, classes, cascade=cascade, mask_convs=mask_convs)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Found:
        """A normalised image `[3, h, w]`."""
        size = (image.shape[1], image.shape[2])
        maps = self.neck(self.backbone(F.pad(image[None], (0, -size[1] % 32, 0, -size[0] % 32))))
        boxes, logits = self.rpn_head.propose(maps, size), []
        heads = list(self.roi_head.bbox_head) if self.cascade else [self.roi_head.bbox_head]
        every = torch.arange(len(boxes))
        for i, head in enumerate(heads):
            answer, codes = head(extract(maps, boxes, 7))
            logits.append(answer)
            codes = codes.view(len(boxes), -1, 4)
            if i + 1 < len(heads):
                boxes = decode(boxes, codes[every, answer[:, :-1].argmax(1)], DEVIATIONS[i], size)
        scores = (sum(logits) / len(logits)).softmax(1)[:, :-1]
        region, label = (scores > 0.05).nonzero().unbind(1)
        boxes = decode(boxes[region], codes[region, label], DEVIATIONS[len(heads) - 1], size)
        values = scores[region, label]
        if self.soft:
            kept, values = soft_nms(boxes, values, label, 0.5)
        else:
            kept = nms(boxes, values, label, 0.5)
            values = values[kept]
        boxes, labels, values = boxes[kept[:100]], label[kept[:100]], values[:100]
        painters = list(self.roi_head.mask_head) if self.cascade else [self.roi_head.mask_head]
        regions = extract(maps, boxes, 14)
        masks = sum(painter(regions)[torch.arange(len(labels)), labels] for painter in painters) / len(painters)
        return Found(boxes, values, labels, masks)


def paste(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Where a mask, with zeros about it, is at least a half in an image of height and width; bool `[h, w]`."""
    x0, y0, x1, y1 = box.tolist()
    xs = (torch.arange(size[1]) + 0.5 - x0) / (x1 - x0) * 2 - 1
    ys = (torch.arange(size[0]) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)[None]
    return F.grid_sample(mask[None, None], grid, align_corners=False, padding_mode="zeros")[0, 0] >= 0.5


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


LARGE = {"rpn_reg.weight": 0.3, "fc_reg.weight": 0.5, "fc_cls.weight": 2.0, "conv_seg.weight": 6.0}
"""Spread of what comes out of some layers; of others 1.4, which keeps activations of order one."""


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
            elif tensor.ndim == 1:
                tensor.copy_(0.2 * drawn)
            else:
                spread = next((large for end, large in LARGE.items() if name.endswith(end)), 1.4)
                if name.endswith(("fc_cls.weight", "conv_seg.weight")):  # else one class would be everywhere
                    drawn -= drawn.mean(1, keepdim=True)
                tensor.copy_(spread * drawn / math.sqrt(tensor[0].numel()))
