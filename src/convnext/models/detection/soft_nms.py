"""Soft-NMS (Bodla et al. 2017): what overlaps a better box is trusted less, and not dropped."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou


def soft_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, *, iou: float, least: float, most: int
) -> tuple[Tensor, Tensor]:
    """The places of the kept boxes, best first, and their new scores; linear decay, class by class.

    Args:
        boxes: `[n, 4]`.
        scores: `[n]`.
        labels: `[n]`.
        iou: overlap from which a score is multiplied by 1 - overlap.
        least: score below which a box is dropped.
        most: boxes kept.
    """
    scores, kept, values = scores.clone(), [], []
    for _ in range(min(most, len(scores))):
        best = int(scores.argmax())
        value = scores[best].clone()
        if value < least:
            break
        kept.append(best)
        values.append(value)
        overlap = box_iou(boxes[best : best + 1], boxes)[0]
        decay = torch.where((overlap > iou) & (labels == labels[best]), 1 - overlap, 1.0)
        scores *= decay
        scores[best] = -1
    return (
        torch.tensor(kept, dtype=torch.int64, device=boxes.device),
        torch.stack(values) if values else scores[:0],
    )
