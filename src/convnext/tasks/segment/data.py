"""From labelled images to what a segmenter trains on and is measured on: augmentation that moves the labels with the
pixels, batches of crops, and whole images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from convnext.data.augment.erasing import NormalizeAndErase
from convnext.data.augment.window import Window
from convnext.data.images.decode import WHITE
from convnext.data.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from convnext.data.images.whole_image import WholeImage, fit_size
from convnext.data.loading import Batch, Batches, Items, Loader, mix
from convnext.data.sources.label_maps import IGNORED, SegmentationSet, open_labelled
from convnext.runtime import distributed as share

TRIES = 10
PHOTOMETRIC = [
    v2.RandomApply([v2.ColorJitter(**{name: strength})])
    for name, strength in {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}.items()
]
"""As published for ADE20K; torchvision's `RandomPhotometricDistort` also permutes the colours."""
PADDING = [round(255 * mean) for mean in IMAGENET_MEAN]  # zero, once normalised


@dataclass(frozen=True)
class SegmentationTransform:
    """Augments an image with its labels to a square crop.

    Args:
        size: the crop's side.
        short: the image's short side before the crop, times `scale`; its long one is at most `long`, times as much.
        scale: a factor, from and to.
        most: the share of a crop that one class may have; it is drawn again, ten times at most, where one has more.
        hflip: probability of a flip.
        photometric: whether brightness, contrast, saturation and hue change, each with probability 1/2.
        white: the value of 16-bit images that is white.
    """

    size: int
    short: int
    long: int
    scale: tuple[float, float]
    most: float
    hflip: float
    photometric: bool
    white: int = WHITE

    def __call__(self, image: Image.Image, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """uint8 `[3, size, size]` and int16 `[size, size]`."""
        truth = torch.from_numpy(labels)[None]
        factor = torch.empty(()).uniform_(*self.scale).item()
        for _ in range(TRIES):
            window = self.window(image.height, image.width, factor)
            crop = crop_resized(truth, window, InterpolationMode.NEAREST_EXACT)
            counts = crop[crop != IGNORED].long().bincount()
            if (counts > 0).sum() > 1 and counts.max() <= self.most * counts.sum():
                break
        pixels = crop_resized(functional.pil_to_tensor(image), window, InterpolationMode.BILINEAR)
        if torch.rand(()).item() < self.hflip:
            pixels, crop = pixels.flip(2), crop.flip(2)
        if self.photometric:
            for change in PHOTOMETRIC:
                pixels = change(pixels)
        below, right = self.size - crop.shape[1], self.size - crop.shape[2]
        pixels = functional.pad(pixels, [0, 0, right, below], fill=PADDING)
        return pixels, F.pad(crop[0], (0, right, 0, below), value=IGNORED)

    def window(self, height: int, width: int, factor: float) -> Window:
        """A random crop of the image scaled by a factor, where that is as large as the crop; else all of it."""
        scaled = fit_size(height, width, max(1, round(self.short * factor)), max(1, round(self.long * factor)))
        inner = [min(self.size, side) for side in scaled]
        ratio = [side / whole for side, whole in zip((height, width), scaled, strict=True)]
        tall, wide = (max(1, round(side * r)) for side, r in zip(inner, ratio, strict=True))
        top, left = (int(torch.randint(rest + 1, ()).item()) for rest in (height - tall, width - wide))
        return Window(top, left, tall, wide, (inner[0], inner[1]))


def crop_resized(pixels: Tensor, window: Window, interpolation: InterpolationMode) -> Tensor:
    """A window of `[C, H, W]`, scaled."""
    place = (window.top, window.left, window.height, window.width, list(window.size))
    return functional.resized_crop(pixels, *place, interpolation=interpolation, antialias=True)


class WholeBatch(NamedTuple):
    """Images as a trained segmenter sees them, float32 `[3, h, w]`, and their classes, int16 `[H, W]`, in the size of
    the label maps."""

    images: list[Tensor]
    labels: list[np.ndarray]
    indices: list[int]
    unreadable: list[tuple[int, str]]


class _Crops(Items):
    """(epoch, place) to an augmented image and its labels; places go on counting where images come again."""

    def __init__(self, data: SegmentationSet, transform: SegmentationTransform, seed: int) -> None:
        super().__init__(seed, refill=True)
        self.data, self.transform = data, transform

    def source(self, index: int) -> str:
        return str(self.data.images[index % len(self.data)].file)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.data.images[index % len(self.data)]
        return self.transform(*open_labelled(image, self.data.table, self.transform.white))

    def batch(self, readable: list[tuple[int, tuple]], unreadable: list[tuple[int, str]]) -> Batch:
        side = self.transform.size
        pixels = [pair[0] for _, pair in readable] or [torch.empty(3, side, side, dtype=torch.uint8)]
        labels = [pair[1] for _, pair in readable] or [torch.empty(side, side, dtype=torch.int16)]
        count = len(readable)
        indices = torch.tensor([place % len(self.data) for place, _ in readable], dtype=torch.int64)
        unreadable = [(place % len(self.data), reason) for place, reason in unreadable]
        finish = NormalizeAndErase(IMAGENET_MEAN, IMAGENET_STD)
        return Batch(torch.stack(pixels)[:count], torch.stack(labels)[:count], indices, unreadable, finish)


class _Whole(Items):
    """(epoch, index) to an image and its classes."""

    def __init__(self, data: SegmentationSet, transform: WholeImage) -> None:
        super().__init__(seed=0, refill=False)
        self.data, self.transform = data, transform

    def source(self, index: int) -> str:
        return str(self.data.images[index].file)

    def read(self, index: int) -> tuple[Tensor, np.ndarray]:
        image, labels = open_labelled(self.data.images[index], self.data.table, self.transform.white)
        return self.transform(image), labels

    def batch(self, readable: list[tuple[int, tuple]], unreadable: list[tuple[int, str]]) -> WholeBatch:
        indices = [index for index, _ in readable]
        return WholeBatch([pair[0] for _, pair in readable], [pair[1] for _, pair in readable], indices, unreadable)


def segmentation_train_loader(
    data: SegmentationSet,
    transform: SegmentationTransform,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    steps: int | None = None,
    rank: int = 0,
    processes: int = 1,
) -> Loader:
    """Shuffled batches as `loading.train_loader` makes them; `targets` are int16 `[B, size, size]`.

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


def segmentation_eval_loader(
    data: SegmentationSet, transform: WholeImage, *, batch_size: int, workers: int, rank: int = 0, processes: int = 1
) -> Loader:
    """All images in order, or every `processes`-th from `rank` on; unreadable ones are left out of their batch."""
    own = range(rank, len(data), processes)
    batches = Batches(lambda epoch: own, -(-len(own) // batch_size), batch_size, list(range(batch_size)))
    return Loader(_Whole(data, transform), batches, workers, persistent=False)
