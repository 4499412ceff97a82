"""The part of a detector that says where something may be: anchors of all maps, scored and moved (Ren et al. 2015).

Anchors, their matching and most of the coding of boxes are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from convnext.models.detection.box_codes import BoxCodes
from convnext.models.detection.sampling import draw_balanced

RATIOS = (0.5, 1.0, 2.0)
"""Height to width of the anchors at a point."""
LEARNT = 256
"""Number of an image's anchors in the loss, at most half of them on objects."""
NMS_IOU = 0.7
BEST_OF_A_LEVEL, PROPOSED = {True: 2000, False: 1000}, 1000
"""Number of a map's best anchors that go into NMS, in training and after it; and of regions proposed in an image."""
SMALLEST = 1e-3
"""Least side of a proposed box, in pixels."""


class Regions(NamedTuple):
    """Boxes x0, y0, x1, y1 `[r, 4]` in an image, and a number `[r]` that each keeps whatever order they are in."""

    boxes: Tensor
    ids: Tensor


class Scored(NamedTuple):
    """The anchors of n images: logits `[n, A]`, box codes `[n, A, 4]`, each image's boxes `[A, 4]`, and how many of
    them are of each map."""

    logits: Tensor
    codes: Tensor
    anchors: list[Tensor]
    counts: list[int]


class Anchors(AnchorGenerator):
    """torchvision's generator of anchors, in fp32 whatever the maps' type: boxes in bf16 would lie pixels off.

    Args:
        sides: of each map's anchors, in pixels.
        strides: of the maps, in pixels.
        rounded: the corners at a point lie on whole pixels, as torchvision has it.
    """

    def __init__(self, sides: Sequence[float], strides: Sequence[int], *, rounded: bool) -> None:
        super().__init__(tuple((side,) for side in sides), (RATIOS,) * len(sides))
        self.strides = tuple(strides)
        if not rounded:
            self.cell_anchors = [exact_anchors(side) for side in sides]

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        # Not the quotient of sizes, as torchvision has it: the last cell of a map may lie partly outside the image.
        return super().grid_anchors(grid_sizes, [[torch.tensor(stride)] * 2 for stride in self.strides])

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [x[:, :1].float() for x in feature_maps])


def exact_anchors(side: float) -> Tensor:
    """The anchors about a point, one for each ratio, of the area of a square: x0, y0, x1, y1 `[ratios, 4]`."""
    root = torch.tensor(RATIOS, device="cpu").sqrt()  # whatever device a network is described on
    width, height = side / root, side * root
    return torch.stack([-width, -height, width, height], dim=1) / 2


class ProposalNetwork(nn.Module):
    """Scores and moves anchors.

    Args:
        dim: channels of the maps.
        anchors: of all maps.
    """

    def __init__(self, dim: int, anchors: Anchors) -> None:
        super().__init__()
        self.anchors = anchors
        self.head = RPNHead(dim, len(RATIOS))
        for layer in self.head.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()  # by width: its own, for 256 channels, are too small for a narrow head
        self.matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
        self.coder = BoxCodes((1.0, 1.0, 1.0, 1.0))

    def forward(self, images: ImageList, maps: list[Tensor]) -> Scored:
        """Images of one padded size and their maps `[n, C, H, W]`, to scored anchors in fp32."""
        logits, codes = self.head(maps)
        flat = [x.permute(0, 2, 3, 1).flatten(1).float() for x in logits]
        moved = [x.permute(0, 2, 3, 1).reshape(len(x), -1, 4).float() for x in codes]
        return Scored(torch.cat(flat, 1), torch.cat(moved, 1), self.anchors(images, maps), [x.shape[1] for x in flat])

    @torch.no_grad()
    def propose(self, scored: Scored, sizes: list[tuple[int, int]]) -> list[Regions]:
        """The best regions of each image of height and width, by the anchors' numbers."""
        return [
            self.best(logits, codes, anchors, scored.counts, size)
            for logits, codes, anchors, size in zip(scored.logits, scored.codes, scored.anchors, sizes, strict=True)
        ]

    def best(self, logits: Tensor, codes: Tensor, anchors: Tensor, counts: list[int], size: tuple[int, int]) -> Regions:
        """The regions of one image, from the best of each map, without those that overlap a better one of their map."""
        first, chosen, levels = 0, [], []
        for number, own in enumerate(logits.split(counts)):
            top = own.topk(min(BEST_OF_A_LEVEL[self.training], len(own))).indices
            chosen.append(top + first)
            levels.append(torch.full_like(top, number))
            first += len(own)
        ids, level = torch.cat(chosen), torch.cat(levels)
        boxes = clip_boxes_to_image(self.coder.decode_single(codes[ids], anchors[ids]), size)
        real = remove_small_boxes(boxes, SMALLEST)
        boxes, ids, level = boxes[real], ids[real], level[real]
        kept = batched_nms(boxes, logits[ids].sigmoid(), level, NMS_IOU)[:PROPOSED]
        return Regions(boxes[kept], ids[kept])

    def losses(self, scored: Scored, truth: list[Tensor], keys: list[int]) -> dict[str, Tensor]:
        """Losses of scores and boxes, means over the images; `truth` has the boxes `[n, 4]` of each image's objects."""
        rows = zip(scored.logits, scored.codes, scored.anchors, truth, keys, strict=True)
        objectness, boxes = zip(*(self.image_losses(*row) for row in rows), strict=True)
        return {"loss_objectness": torch.stack(objectness).mean(), "loss_rpn_box_reg": torch.stack(boxes).mean()}

    def image_losses(
        self, logits: Tensor, codes: Tensor, anchors: Tensor, truth: Tensor, key: int
    ) -> tuple[Tensor, Tensor]:
        """Losses of scores and boxes in one image, over the anchors that are drawn by its key."""
        if len(truth):
            matches = self.matcher(box_iou(truth, anchors))  # -1: background, -2: neither
            labels = torch.where(matches >= 0, 1, matches + 1)
        else:
            matches = labels = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        numbers = torch.arange(len(anchors), device=anchors.device)
        drawn = draw_balanced(labels, numbers, key, size=LEARNT, positive=0.5)
        above = drawn[labels[drawn] > 0]
        wanted = self.coder.encode_single(truth[matches[above]], anchors[above]) if len(above) else codes[above]
        box_loss = F.smooth_l1_loss(codes[above], wanted, beta=1 / 9, reduction="sum") / len(drawn)
        return F.binary_cross_entropy_with_logits(logits[drawn], labels[drawn].float()), box_loss
