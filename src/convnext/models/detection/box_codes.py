"""Boxes as shifts and log-sizes relative to others (Girshick et al. 2014, appendix C)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder


class BoxCodes(BoxCoder):
    """torchvision's coder, with a limit to how much a box shrinks too: as much as it may grow, 1000 / 16 times.

    It is mmdetection's rule (`wh_ratio_clip`); torchvision's own limits growth alone.
    """

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Codes `[n, 4 m]` of boxes `[n, 4]` to boxes `[n, 4 m]`."""
        least = rel_codes.new_tensor([-self.bbox_xform_clip * weight for weight in self.weights[2:]])
        shifts, sizes = rel_codes.unflatten(1, (-1, 4)).split(2, dim=2)
        return super().decode_single(torch.cat([shifts, sizes.maximum(least)], dim=2).flatten(1), boxes)
