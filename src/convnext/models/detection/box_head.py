"""The part of a detector that says, of a region, what it is and where exactly (Faster R-CNN; Cascade R-CNN)."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou, clip_boxes_to_image, generalized_box_iou_loss

from convnext.models.detection.box_codes import BoxCodes
from convnext.models.detection.objects import Objects
from convnext.models.detection.proposals import Regions
from convnext.models.detection.sampling import draw_balanced

BoxNorm = Literal["batch", "group", "none"]

CODE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""One over the deviations of the box targets, of the first stage and those after it."""


class ConvNorm(nn.Sequential):
    """A 3×3 convolution, a norm or none, and ReLU; `[N, C, H, W]` to `[N, out, H, W]`."""

    def __init__(self, dim: int, out: int, norm: BoxNorm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out, 3, padding=1, bias=norm == "none")
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if norm != "none":
            self.norm = nn.BatchNorm2d(out) if norm == "batch" else nn.GroupNorm(math.gcd(32, out), out)
        self.act = nn.ReLU(inplace=True)


class BoxHead(nn.Module):
    """Pooled regions to class logits and box codes.

    Args:
        dim: channels of the regions.
        side: their height and width.
        classes: without the background.
        convs: 3×3 convolutions before the linear layers: 0 (Faster R-CNN), 4 (Cascade R-CNN).
        linear_dim: width of the linear layers; two without convolutions, one with.
        class_agnostic: one box for all classes instead of one for each.
    """

    def __init__(
        self, dim: int, side: int, classes: int, *, convs: int, linear_dim: int, norm: BoxNorm, class_agnostic: bool
    ) -> None:
        super().__init__()
        self.class_agnostic = class_agnostic
        self.convs = nn.Sequential(*[ConvNorm(dim, dim, norm) for _ in range(convs)])
        widths = [dim * side * side, linear_dim] if convs else [dim * side * side, linear_dim, linear_dim]
        linears = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        self.linear = nn.ModuleList(linears)
        for layer in linears:
            nn.init.xavier_uniform_(layer.weight)
        self.classify = nn.Linear(linear_dim, classes + 1)
        self.box = nn.Linear(linear_dim, 4 if class_agnostic else 4 * classes)
        for layer in (*linears, self.classify, self.box):
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """`[R, C, side, side]` to logits `[R, 1 + classes]`, the background first, and codes `[R, boxes, 4]`."""
        x = self.convs(regions).flatten(1)
        for layer in self.linear:
            x = F.relu(layer(x))
        return self.classify(x).float(), self.box(x).float().unflatten(1, (-1, 4))


class BoxStage(nn.Module):
    """A head, and how its regions are matched and its boxes coded.

    Args:
        head: what it computes with.
        iou: overlap with an object from which a region counts as it.
        code_weights: of the box codes.
        giou: learn boxes by generalised IoU, weighted 10, instead of by L1 on the codes.
        rois_per_image: regions of an image, to learn from; a quarter of them on objects.
    """

    POSITIVE = 0.25

    def __init__(
        self,
        head: BoxHead,
        *,
        iou: float,
        code_weights: tuple[float, float, float, float],
        giou: bool,
        rois_per_image: int,
    ) -> None:
        super().__init__()
        self.head, self.giou = head, giou
        self.matcher = Matcher(iou, iou, allow_low_quality_matches=False)
        self.rois_per_image = rois_per_image
        self.coder = BoxCodes(code_weights)

    @torch.no_grad()
    def sample(
        self, regions: list[Regions], objects: list[Objects], keys: list[int]
    ) -> tuple[list[Regions], list[Tensor], list[Tensor]]:
        """Choose regions of each image to learn from, with their labels (0: background, else class + 1) and objects.

        The objects' own boxes are among the regions. An image's key and the regions' numbers say which are drawn.
        """
        chosen, labels, matches = [], [], []
        for (boxes, ids), truth, key in zip(regions, objects, keys, strict=True):
            own = torch.arange(1, len(truth.boxes) + 1, device=ids.device)
            ids = torch.cat([ids, torch.cat([ids, ids.new_zeros(1)]).min() - own])  # below all there are
            boxes = torch.cat([boxes, truth.boxes])
            if len(truth.boxes):
                found = self.matcher(box_iou(truth.boxes, boxes))
                label = torch.where(found >= 0, truth.labels[found.clamp(min=0)] + 1, 0)
            else:
                found = label = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
            keep = draw_balanced(label, ids, key, size=self.rois_per_image, positive=self.POSITIVE)
            chosen.append(Regions(boxes[keep], ids[keep]))
            labels.append(label[keep])
            matches.append(found[keep].clamp(min=0))
        return chosen, labels, matches

    def losses(
        self, logits: Tensor, codes: Tensor, regions: Tensor, labels: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses of class and box, summed over regions `[R, 4]` with labels `[R]`, boxes of their objects `[R, 4]` and
        weights `[R]`."""
        class_loss = (F.cross_entropy(logits, labels, reduction="none") * weights).sum()
        positive = torch.where(labels > 0)[0]
        own = codes[positive, 0 if self.head.class_agnostic else labels[positive] - 1]
        if self.giou:
            boxes = self.coder.decode_single(own, regions[positive])
            box_losses = 10 * generalized_box_iou_loss(boxes, targets[positive], reduction="none")
        else:
            wanted = self.coder.encode_single(targets[positive], regions[positive])
            box_losses = F.l1_loss(own, wanted, reduction="none").sum(1)
        return class_loss, (box_losses * weights[positive]).sum()

    def refine(self, codes: Tensor, best: Tensor, regions: Tensor, size: tuple[int, int]) -> Tensor:
        """The regions moved to where the stage says their class `best` `[R]` lies: `[R, 4]`, for the stage after it."""
        boxes = self.decode(codes, regions, size)
        return boxes[:, 0] if self.head.class_agnostic else boxes[torch.arange(best.shape[0], device=best.device), best]

    def decode(self, codes: Tensor, regions: Tensor, size: tuple[int, int]) -> Tensor:
        """Codes `[R, boxes, 4]` of regions `[R, 4]` to boxes `[R, boxes, 4]` inside an image of height and width."""
        boxes = self.coder.decode_single(codes.flatten(1), regions).view(codes.shape)
        return clip_boxes_to_image(boxes, size)
