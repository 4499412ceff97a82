"""Batches of images that a command line names, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convnext.data.images.decode import read_image
from convnext.data.loading import Items, Loader, in_order


class ListedBatch(NamedTuple):
    """Images that were read, and those that could not be, as (place in the list, reason)."""

    inputs: Tensor | list[Tensor]
    """`[n, C, H, W]`, or where sizes differ `[C, h, w]` each."""
    places: list[int]
    unreadable: list[tuple[int, str]]


def listed_loader(images: Sequence[tuple[str, Any]], transform: Any, *, batch_size: int, workers: int) -> Loader:
    """Batches of all images, (name, what `read_image` takes) each, as a predictor's `transform` makes them.

    Unreadable images are left out of their batch, which may be empty.
    """
    batches = in_order(len(images), batch_size)
    return Loader(_Listed(images, transform), batches, workers, persistent=False)


class _Listed(Items):
    """Images of a list."""

    def __init__(self, images: Sequence[tuple[str, Any]], transform: Any) -> None:
        super().__init__(seed=0, refill=False)
        self.images, self.transform = images, transform

    def source(self, index: int) -> str:
        return self.images[index][0]

    def read(self, index: int) -> Tensor:
        return self.transform(read_image(self.images[index][1], self.transform.mode, white=self.transform.white))

    def batch(self, readable: list[tuple[int, Any]], unreadable: list[tuple[int, str]]) -> ListedBatch:
        inputs = [image for _, image in readable]
        # One tensor where that can be: a loading process hands over each through a file of its own.
        same = len({image.shape for image in inputs}) == 1
        return ListedBatch(torch.stack(inputs) if same else inputs, [place for place, _ in readable], unreadable)
