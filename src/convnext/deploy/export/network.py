"""A network as a program for any number and size of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export import export as trace

MOST = 4096
"""Images of a batch that an export takes, at most."""
EXAMPLE = (2, 200, 333)
"""Batch, height and width that are traced; sides that are no multiples of a stride show that padding is there."""


class ExportNetwork(nn.Module):
    """A network computed in one precision, with inputs and outputs of numbers with fractions in fp32.

    Args:
        network: any.
        compute: of the network and normalised images `[N, C, H, W]`, its outputs.
        precision: type of weights and activations.
        statistics: mean and deviation of each channel, for values in 0..1, by which the network normalises pixels
            itself; None: it takes normalised images.
    """

    statistics: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        compute: Callable[[Any, Tensor], tuple[Tensor, ...]],
        precision: torch.dtype,
        statistics: Sequence[Sequence[float]] | None,
    ) -> None:
        super().__init__()
        self.register_buffer("statistics", None if statistics is None else torch.tensor(statistics)[:, :, None, None])
        self.network, self.compute, self.precision = network.to(precision), compute, precision

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images `[N, C, H, W]`, or pixels uint8 `[N, H, W, C]` where the network normalises them."""
        if self.statistics is not None:
            mean, deviation = self.statistics
            images = (images.permute(0, 3, 1, 2).float() / 255 - mean) / deviation
        outputs = self.compute(self.network, images.to(self.precision))
        return tuple(output.float() if output.is_floating_point() else output for output in outputs)


def program_of(network: ExportNetwork, in_chans: int, most: int) -> ExportedProgram:
    """The network's computation, for 1 to `most` images of any height and width from 2 on."""
    count, height, width = EXAMPLE
    count = min(count, most)
    images, down = torch.randn(count, in_chans, height, width), 2
    if network.statistics is not None:
        images, down = torch.randint(256, (count, height, width, in_chans), dtype=torch.uint8), 1
    batch = Dim.STATIC if most == 1 else Dim("n", min=1, max=most)
    shapes = {"images": {0: batch, down: Dim.DYNAMIC, down + 1: Dim.DYNAMIC}}
    with torch.no_grad():
        return trace(network.eval(), (images,), dynamic_shapes=shapes)
