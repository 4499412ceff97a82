"""Batches of images with maps (`data.sources.maps`): crops to train on, and whole images to measure."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.data.augment.erasing import NormalizeAndErase
from convnext.data.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from convnext.data.images.whole_image import WholeImage
from convnext.data.loading import Batch, Batches, Items, Loader, in_order, mix
from convnext.data.sources.maps import MappedSet
from convnext.runtime import distributed as share


class CropTransform(Protocol):
    """Augments an image and its map to a square crop of side `size`; `white` is that of 16-bit images."""

    @property
    def size(self) -> int: ...
    @property
    def white(self) -> int: ...
    def __call__(self, image: Image.Image, values: np.ndarray, /) -> tuple[Tensor, Tensor]:
        """uint8 `[3, size, size]`, and the map `[size, size]`."""


class WholeBatch(NamedTuple):
    """Images as a trained network sees them, float32 `[3, h, w]`, and their maps `[H, W]` in the size of the files."""

    images: list[Tensor]
    maps: list[np.ndarray]
    indices: list[int]
    unreadable: list[tuple[int, str]]


class _Crops(Items):
    """(epoch, place) to an augmented image and its map; places go on counting where images come again."""

    def __init__(self, data: MappedSet, transform: CropTransform, seed: int) -> None:
        super().__init__(seed, refill=True)
        self.data, self.transform = data, transform

    def source(self, index: int) -> str:
        return str(self.data.images[index % len(self.data)].file)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(*self.data.open(index % len(self.data), self.transform.white))

    def batch(self, readable: list[tuple[int, tuple]], unreadable: list[tuple[int, str]]) -> Batch:
        side = self.transform.size
        pixels = [pair[0] for _, pair in readable] or [torch.empty(3, side, side, dtype=torch.uint8)]
        maps = [pair[1] for _, pair in readable] or [torch.empty(side, side)]
        count = len(readable)
        indices = torch.tensor([place % len(self.data) for place, _ in readable], dtype=torch.int64)
        unreadable = [(place % len(self.data), reason) for place, reason in unreadable]
        finish = NormalizeAndErase(IMAGENET_MEAN, IMAGENET_STD)
        return Batch(torch.stack(pixels)[:count], torch.stack(maps)[:count], indices, unreadable, finish)


class _Whole(Items):
    """(epoch, index) to an image and its map."""

    def __init__(self, data: MappedSet, transform: WholeImage) -> None:
        super().__init__(seed=0, refill=False)
        self.data, self.transform = data, transform

    def source(self, index: int) -> str:
        return str(self.data.images[index].file)

    def read(self, index: int) -> tuple[Tensor, np.ndarray]:
        image, values = self.data.open(index, self.transform.white)
        return self.transform(image), values

    def batch(self, readable: list[tuple[int, tuple]], unreadable: list[tuple[int, str]]) -> WholeBatch:
        indices = [index for index, _ in readable]
        return WholeBatch([pair[0] for _, pair in readable], [pair[1] for _, pair in readable], indices, unreadable)


def map_train_loader(
    data: MappedSet,
    transform: CropTransform,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    steps: int | None = None,
    rank: int = 0,
    processes: int = 1,
) -> Loader:
    """Shuffled batches as `loading.train_loader` makes them; `targets` are the crops' maps, `[B, size, size]`.

    With `steps`, an epoch is that many batches instead of one pass: the next begins where it ended.
    """
    size = min(batch_size, len(data))
    length = len(data) // size if steps is None else steps

    def order(epoch: int) -> list[int]:
        if steps is None:
            return _order(len(data), seed, epoch).tolist()
        return _stream(len(data), length * size, seed, epoch)

    places = share.own_places(size, rank, processes)
    return Loader(_Crops(data, transform, seed), Batches(order, length, size, places), workers, persistent=True)


def _order(count: int, seed: int, number: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed, number)))


def _stream(count: int, taken: int, seed: int, epoch: int) -> list[int]:
    """Part `epoch`, of `taken` places, of one random order of `count` after another.

    In each pass of a part places are `count` higher, for what is drawn for an image depends on (epoch, place).
    """
    first, skip = divmod(epoch * taken, count)
    passes = -(-(skip + taken) // count)
    orders = [_order(count, seed, first + n) + n * count for n in range(passes)]
    return torch.cat(orders)[skip : skip + taken].tolist()


def map_eval_loader(
    data: MappedSet, transform: WholeImage, *, batch_size: int, workers: int, rank: int = 0, processes: int = 1
) -> Loader:
    """All images in order, or every `processes`-th from `rank` on; unreadable ones are left out of their batch."""
    batches = in_order(len(data), batch_size, rank, processes)
    return Loader(_Whole(data, transform), batches, workers, persistent=False)
