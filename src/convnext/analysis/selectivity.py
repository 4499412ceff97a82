"""Class selectivity: how much more a unit answers to one class than to the others (Morcos et al., arXiv 1803.06959)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from convnext.analysis.blocks import blocks_of, watching
from convnext.errors import InputError
from convnext.nn.backbone import ConvNeXt


@torch.no_grad()
def class_selectivity(backbone: ConvNeXt, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The index of each channel at the output of each block, `[C]` from 0 to 1; nan where it is never positive.

    A channel's activation on an image is the mean over positions of its positive part: the index
    `(μ_max - μ_rest) / (μ_max + μ_rest)` is written for units that are not negative. μ_max is the largest of the
    classes' mean activations, μ_rest the mean of the others'.

    Args:
        backbone: any ConvNeXt.
        batches: whole images `[N, in_chans, H, W]`, and their classes `[N]`.

    Raises:
        InputError: images of fewer than two classes.
    """
    blocks = blocks_of(backbone)
    activations: list[list[Tensor]] = [[] for _ in blocks]
    targets = []

    def measure(place: int, output: Tensor) -> None:
        activations[place].append(output.float().relu().flatten(1, -2).mean(dim=1, dtype=torch.float64).cpu())

    with watching(backbone, [block for _, block in blocks], measure):
        for images, classes in batches:
            if len(images):
                targets.append(classes)
                backbone.run_stages(backbone.padded(images))
    seen, of_class = torch.cat(targets).unique(return_inverse=True) if targets else (torch.empty(0), torch.empty(0))
    if len(seen) < 2:
        raise InputError("class selectivity compares the images of two classes or more")
    return [selectivity_index(class_means(torch.cat(parts), of_class, len(seen))) for parts in activations]


def class_means(values: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Mean of `values` `[N, C]` over the images of each class, `[classes, C]`."""
    totals = torch.zeros(classes, values.shape[1], dtype=values.dtype).index_add_(0, targets, values)
    return totals / targets.bincount(minlength=classes)[:, None]


def selectivity_index(means: Tensor) -> Tensor:
    """Class means `[classes, C]` of activations that are not negative to each channel's index `[C]`."""
    most = means.amax(dim=0)
    rest = (means.sum(dim=0) - most) / (len(means) - 1)
    return (most - rest) / (most + rest)
