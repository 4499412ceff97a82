"""Blocks of a backbone, seen while images go through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from convnext.nn.backbone import ConvNeXt
from convnext.nn.block import Block


class Place(NamedTuple):
    """A block's place in the network: its number from the stem on, and its stage; both count from 1."""

    block: int
    stage: int


def blocks_of(backbone: ConvNeXt) -> list[tuple[Place, Block]]:
    """All blocks, from the first to the last."""
    blocks: list[tuple[int, Any]] = [
        (number, block) for number, stage in enumerate(backbone.stages, 1) for block in stage.children()
    ]
    return [(Place(i, stage), block) for i, (stage, block) in enumerate(blocks, 1)]


@contextmanager
def watching(backbone: ConvNeXt, layers: Sequence[nn.Module], see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Inside, `see` gets each layer's number and output, and the backbone is in evaluation."""

    def hook(place: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, output: see(place, output)

    handles = [layer.register_forward_hook(hook(i)) for i, layer in enumerate(layers)]
    training = backbone.training
    backbone.eval()
    try:
        yield
    finally:
        backbone.train(training)
        for handle in handles:
            handle.remove()
