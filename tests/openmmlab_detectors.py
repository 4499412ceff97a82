"""Detectors of mmdetection, by their parameter names and formulas, stated without this package.

Sources: mmdetection's `FPN`, `AnchorGenerator`, `DeltaXYWHBBoxCoder`, `RPNHead`, `SingleRoIExtractor`,
`ConvFCBBoxHead`, `CascadeRoIHead`, `FCNMaskHead`, mmcv's `soft_nms`, and the configurations that the published files
were trained by.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from openmmlab_networks import Backbone, ConvModule
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (4, 8, 16, 32, 64)
DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


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
