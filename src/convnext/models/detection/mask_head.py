"""The part of a detector that draws, of a region, the outline of its object (Mask R-CNN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from convnext.models.detection.box_head import ConvNorm


class MaskHead(nn.Module):
    """Pooled regions to a mask of twice their side for each class.

    Args:
        dim: channels of the regions, and of the head.
        classes: without the background.
        convs: 3×3 convolutions before the upsampling.
    """

    def __init__(self, dim: int, classes: int, *, convs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[ConvNorm(dim, dim, "none") for _ in range(convs)])
        self.upsample = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        self.predict = nn.Conv2d(dim, classes, 1)
        for layer in (self.upsample, self.predict):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> Tensor:
        """`[R, C, side, side]` to logits `[R, classes, 2 side, 2 side]`."""
        return self.predict(F.relu(self.upsample(self.convs(regions)))).float()


def mask_loss(
    logits: Tensor, regions: list[Tensor], labels: Tensor, matches: list[Tensor], masks: list[Tensor], weights: Tensor
) -> Tensor:
    """Binary cross-entropy of each region's mask for its class, a mean over the mask's cells.

    Args:
        logits: `[R, classes, side, side]`.
        regions: of each image, boxes `[r, 4]`.
        labels: `[R]`, class + 1.
        matches: of each image, the objects' numbers `[r]`.
        masks: of each image, the objects' masks `[n, H, W]`.
        weights: of the regions in the sum, `[R]`.
    """
    if not len(labels):
        return logits.sum() * 0
    own = logits[torch.arange(len(labels), device=labels.device), labels - 1]
    wanted = mask_targets(regions, matches, masks, logits.shape[-1])
    return (F.binary_cross_entropy_with_logits(own, wanted, reduction="none").mean((1, 2)) * weights).sum()


def mask_targets(regions: list[Tensor], matches: list[Tensor], masks: list[Tensor], side: int) -> Tensor:
    """Targets of a mask head, `[R, side, side]`: how much of each cell of a region its object covers."""
    return torch.cat(
        [
            roi_align(
                shapes[:, None].float(), torch.cat([match[:, None].to(boxes.dtype), boxes], 1), side, aligned=True
            )[:, 0]
            for boxes, match, shapes in zip(regions, matches, masks, strict=True)
            if len(boxes)
        ]
    )
