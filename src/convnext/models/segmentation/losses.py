"""Losses of a segmenter: cross-entropy of all pixels or of the hard ones, and Dice."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SURE, LEAST = 0.7, 1 / 16
"""A pixel is hard whose true class is given a lower probability; at least this share of the pixels is taken."""


def class_weights(pixels: np.ndarray, power: float = 1.0) -> Tensor:
    """The inverse of each class's pixels `[classes]` to a power, 1 on average over the pixels; 0 if it has none."""
    counts = torch.from_numpy(pixels).double()
    weights = torch.where(counts > 0, counts.clamp(min=1) ** -power, 0)
    return (weights * counts.sum() / (weights * counts).sum()).float()


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    weights: Tensor | None = None,
    hard: bool = False,
    dice: float = 0.0,
) -> Tensor:
    """Mean over the images of each one's own loss, so that parts of a batch add up to it.

    An image's is the mean over all its pixels, ignored ones among them.

    Args:
        logits: fp32 `[N, classes, H, W]`.
        labels: int64 `[N, H, W]`.
        ignore_index: the label of pixels that neither teach nor count.
        weights: of the classes, on the logits' device.
        hard: online hard example mining (Shrivastava et al. 2016): pixels that are easy teach nothing, and an image's
            mean is over its others.
        dice: weight of `dice_loss` beside it.
    """
    losses = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index, reduction="none").flatten(1)
    if hard:
        chosen = hard_pixels(logits, labels, ignore_index)
        loss = ((losses * chosen).sum(1) / chosen.sum(1).clamp(min=1)).mean()
    else:
        loss = losses.mean()
    return loss + dice * dice_loss(logits, labels, ignore_index) if dice else loss


@torch.no_grad()
def hard_pixels(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Whether each pixel is hard, bool `[N, H · W]`: of each image those below `SURE`, and at least a share `LEAST`."""
    ignored = labels == ignore_index
    true = logits.log_softmax(1).gather(1, labels.masked_fill(ignored, 0)[:, None])[:, 0].exp()
    true = true.masked_fill(ignored, 2.0).flatten(1)
    least = max(1, int(LEAST * true.shape[1]))
    return true <= true.kthvalue(least, dim=1, keepdim=True).values.clamp(SURE, 1.0)


def dice_loss(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """One minus the overlap 2 |A B| / (|A| + |B|), a mean over each image's classes and over the images (Milletari et
    al. 2016); 0 for an image without any."""
    counted = (labels != ignore_index)[:, None]
    # The logits' type: one_hot's would be int64, of 5 GB for 16 crops of 512² pixels and 150 classes.
    truth = torch.zeros_like(logits).scatter_(1, labels[:, None] * counted, counted.to(logits.dtype))
    found = logits.softmax(1) * counted
    both, sizes = (found * truth).sum((2, 3)), found.sum((2, 3)) + truth.sum((2, 3))
    present = truth.sum((2, 3)) > 0
    lacking = (1 - 2 * both / sizes.clamp(min=1)) * present
    return (lacking.sum(1) / present.sum(1).clamp(min=1)).mean()
