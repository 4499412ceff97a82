"""Feature collapse: how alike the channels of each block are (ConvNeXt V2, section 3.2 and figure 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.nn.backbone import ConvNeXt

COLLAPSED = 0.05
"""Under this distance, the channels of a block are as good as one: what trains well has 0.1 and more (docs/log.md)."""


@torch.no_grad()
def feature_distances(backbone: ConvNeXt, batches: Iterable[Tensor]) -> list[float]:
    """Mean cosine distance between pairs of channels of each block's 4C features after GELU; near 0 is collapse.

    For one image, `(1 / C²) Σᵢ Σⱼ (1 - cos(Xᵢ, Xⱼ)) / 2` over channels i, j as vectors of positions; the result is the
    mean over images, a number for each block from the first to the last.

    Args:
        backbone: any ConvNeXt.
        batches: whole images `[N, in_chans, H, W]`.
    """
    wide_layers = [module for name, module in backbone.named_modules() if name.endswith(".pwconv1")]
    totals, images = [0.0] * len(wide_layers), 0

    def measure(place: int) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor], wide: Tensor) -> None:
            features = F.normalize(F.gelu(wide.float()).flatten(1, 2), dim=1)
            # The sum of all pairs' cosines is the squared length of the sum of the unit vectors.
            cosine = features.mean(dim=2).square().sum(dim=1)
            totals[place] += ((1 - cosine) / 2).sum().item()

        return hook

    handles = [layer.register_forward_hook(measure(i)) for i, layer in enumerate(wide_layers)]
    training = backbone.training
    backbone.eval()
    try:
        for batch in batches:
            images += len(batch)
            backbone.forward_stages(batch)
    finally:
        backbone.train(training)
        for handle in handles:
            handle.remove()
    return [total / images for total in totals]
