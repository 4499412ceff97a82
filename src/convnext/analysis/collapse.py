"""Feature collapse: how alike the channels of each block are (ConvNeXt V2, section 3.2 and figures 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from convnext.analysis.blocks import Place, blocks_of, watching
from convnext.nn.backbone import ConvNeXt

COLLAPSED = 0.05
"""Under this distance, the channels of a block are as good as one: what trains well has 0.1 and more (docs/log.md)."""


class BlockFeatures(NamedTuple):
    """A block's 4C features after GELU.

    Args:
        place: of the block.
        distance: mean cosine distance between pairs of channels; near 0 is collapse.
        dead: share of the channels that GELU lets nothing through of, at no position of any image.
        saturated: share of the channels that GELU lets all through of, at every position of every image.
    """

    place: Place
    distance: float
    dead: float
    saturated: float


@torch.no_grad()
def block_features(backbone: ConvNeXt, batches: Iterable[Tensor]) -> list[BlockFeatures]:
    """The features of each block, from the first to the last.

    The distance of an image is `(1 / C²) Σᵢ Σⱼ (1 - cos(Xᵢ, Xⱼ)) / 2` over channels i, j as vectors of positions; the
    result is the mean over images.

    Args:
        backbone: any ConvNeXt.
        batches: whole images `[N, in_chans, H, W]`, of any sizes.
    """
    blocks = blocks_of(backbone)
    totals, images = [0.0] * len(blocks), 0
    most = [torch.tensor(-torch.inf)] * len(blocks)
    least = [torch.tensor(torch.inf)] * len(blocks)

    def measure(place: int, wide: Tensor) -> None:
        wide = wide.float().flatten(1, -2)
        features = F.normalize(F.gelu(wide), dim=1)
        # The sum of all pairs' cosines is the squared length of the sum of the unit vectors.
        cosine = features.mean(dim=2, dtype=torch.float64).square().sum(dim=1)
        totals[place] += ((1 - cosine) / 2).sum().item()
        most[place] = torch.maximum(most[place], wide.amax((0, 1)).cpu())
        least[place] = torch.minimum(least[place], wide.amin((0, 1)).cpu())

    with watching(backbone, [block.pwconv1 for _, block in blocks], measure):
        for batch in batches:
            if len(batch):
                images += len(batch)
                backbone.run_stages(backbone.padded(batch))
    shares = [((most[i] <= 0).float().mean().item(), (least[i] >= 0).float().mean().item()) for i in range(len(blocks))]
    return [
        BlockFeatures(place, total / images, *share)
        for (place, _), total, share in zip(blocks, totals, shares, strict=True)
    ]


def feature_distances(backbone: ConvNeXt, batches: Iterable[Tensor]) -> list[float]:
    """Mean cosine distance between pairs of channels of each block's features (`block_features`)."""
    return [features.distance for features in block_features(backbone, batches)]
