"""From annotated images to what a detector trains on and is measured on: augmentation that moves boxes and masks with
the pixels, and batches of images of several sizes."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from convnext.data.augment.window import Window, random_part
from convnext.data.images.decode import WHITE
from convnext.data.images.whole_image import WholeImage, fit_size, normalise
from convnext.data.loading import Batches, Items, Loader, in_order, mix
from convnext.data.rle import to_masks
from convnext.data.sources.annotated import AnnotatedImage, DetectionSet, decode_annotated
from convnext.models.detection.objects import Objects
from convnext.runtime import distributed as share

log = logging.getLogger("convnext")

DECODED = 64 * 10**6
"""Bytes of masks that are decoded at once."""


class DetectionBatch(NamedTuple):
    """B images, float32 `[3, H, W]` of a size each, normalised, and what is in them."""

    images: list[Tensor]
    objects: list[Objects]
    indices: list[int]  # positions in the `DetectionSet`
    unreadable: list[tuple[int, str]]


def jitter(height: int, width: int, side: int, scale: tuple[float, float]) -> Window:
    """Large-scale jitter (Ghiasi et al. 2021): the image fitted into a square, scaled by a random factor, and of that a
    random window of at most the square."""
    factor = torch.empty(()).uniform_(*scale).item() * min(side / height, side / width)
    part_h, part_w = (min(length, max(1, math.floor(side / factor))) for length in (height, width))
    top, left = (int(torch.randint(rest + 1, ()).item()) for rest in (height - part_h, width - part_w))
    out_h, out_w = (min(side, max(1, round(taken * factor))) for taken in (part_h, part_w))
    return Window(top, left, part_h, part_w, (out_h, out_w))


@dataclass(frozen=True)
class DetectionTransform:
    """Augments an image with its objects.

    Args:
        size: the jitter's square; or the short sides to choose from, with `long` the most of the other.
        scale: the jitter's factor, from and to; None takes a whole image at one of the `size` short sides.
        part: where `scale` is None, the probability of a part of the image instead (`random_part`).
        hflip, vflip: probabilities of flips.
        colour: strength of changes of brightness, contrast and saturation.
        masks: whether objects have masks.
        white: the value of 16-bit images that is white.
    """

    size: tuple[int, ...]
    long: int
    scale: tuple[float, float] | None
    hflip: float
    vflip: float
    colour: float
    masks: bool
    part: float = 0.0
    white: int = WHITE

    def __call__(self, image: Image.Image, annotated: AnnotatedImage) -> tuple[Tensor, Objects]:
        height, width = image.height, image.width
        if self.scale is not None:
            window = jitter(height, width, self.size[0], self.scale)
        else:
            short = self.size[int(torch.randint(len(self.size), ()).item())]
            if self.part and torch.rand(()).item() < self.part:
                window = random_part(height, width, short=short, long=self.long)
            else:
                window = Window(0, 0, height, width, fit_size(height, width, short, self.long))
        pixels, objects = crop_with_objects(image, annotated, window, masks=self.masks)
        for probability, axis in ((self.hflip, 2), (self.vflip, 1)):
            if torch.rand(()).item() < probability:
                pixels, objects = flip(pixels, objects, axis)
        if self.colour:
            pixels = v2.ColorJitter(self.colour, self.colour, self.colour)(pixels)
        return normalise(pixels), objects


def crop_with_objects(
    image: Image.Image, annotated: AnnotatedImage, window: Window, *, masks: bool
) -> tuple[Tensor, Objects]:
    """A window of an image, uint8 `[3, h, w]`, with the objects of which something is in it; crowds are left out."""
    place = (window.top, window.left, window.height, window.width, list(window.size))
    pixels = functional.resized_crop(
        functional.pil_to_tensor(image), *place, interpolation=InterpolationMode.BILINEAR, antialias=True
    )
    kept = [a for a in annotated.annotations if not a.crowd and (a.outline is not None or not masks)]
    labels = torch.tensor([a.label for a in kept], dtype=torch.int64)
    if masks:
        few = max(1, DECODED // (image.width * image.height))  # a hundred masks of a large image would fill the memory
        shapes = torch.cat(
            [
                functional.resized_crop(
                    to_masks([a.outline for a in kept[first : first + few]], image.width, image.height),
                    *place,
                    interpolation=InterpolationMode.NEAREST_EXACT,
                )
                for first in range(0, max(1, len(kept)), few)
            ]
        )
        left = shapes.flatten(1).bool().any(1)
        shapes, labels = shapes[left], labels[left]
        boxes = masks_to_boxes(shapes) if len(shapes) else torch.zeros(0, 4)
        boxes[:, 2:] += 1  # the far edges of the last pixels
        return pixels, Objects(boxes, labels, shapes)
    boxes = torch.tensor([a.box for a in kept], dtype=torch.float32).view(-1, 4)
    (height, width), start = window.size, torch.tensor([window.left, window.top] * 2)
    factor = torch.tensor([width / window.width, height / window.height] * 2)
    boxes = ((boxes - start) * factor).clamp(min=0).minimum(torch.tensor([width, height] * 2))
    left = (boxes[:, 2:] - boxes[:, :2]).amin(1) > 1e-2
    return pixels, Objects(boxes[left], labels[left], torch.zeros(0, height, width, dtype=torch.uint8))


def flip(pixels: Tensor, objects: Objects, axis: int) -> tuple[Tensor, Objects]:
    """Mirrored along the rows (`axis` 2) or the columns (1)."""
    boxes, length = objects.boxes.clone(), pixels.shape[axis]
    ends = [0, 2] if axis == 2 else [1, 3]
    boxes[:, ends] = length - boxes[:, ends[::-1]]
    return pixels.flip(axis), Objects(boxes, objects.labels, objects.masks.flip(axis))


def open_annotated(annotated: AnnotatedImage, white: int = WHITE) -> Image.Image:
    """The image's pixels, as `decode_annotated` gives them."""
    return decode_annotated(annotated.file, annotated.width, annotated.height, white=white)


class _Dataset(Items):
    """(epoch, index) to an image and its objects."""

    def __init__(self, data: DetectionSet, transform: DetectionTransform | WholeImage, seed: int, refill: bool) -> None:
        super().__init__(seed, refill)
        self.data, self.transform = data, transform

    def source(self, index: int) -> str:
        return str(self.data.images[index].file)

    def read(self, index: int) -> tuple[Tensor, Objects | None]:
        annotated = self.data.images[index]
        image = open_annotated(annotated, self.transform.white)
        if isinstance(self.transform, WholeImage):
            return self.transform(image), None
        return self.transform(image, annotated)

    def batch(self, readable: list[tuple[int, tuple]], unreadable: list[tuple[int, str]]) -> DetectionBatch:
        images, objects = [pair[0] for _, pair in readable], [pair[1] for _, pair in readable]
        return DetectionBatch(images, objects, [index for index, _ in readable], unreadable)


def detection_train_loader(
    data: DetectionSet,
    transform: DetectionTransform,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    rank: int = 0,
    processes: int = 1,
) -> Loader:
    """Shuffled batches as `loading.train_loader` makes them, each of wide images or of tall ones, to pad them little.

    All images of `data` are in them, also those without objects.
    """
    wide = np.array([image.width >= image.height for image in data.images])
    size = min(batch_size, len(data))
    order = partial(_by_shape, wide, size, seed)
    batches = Batches(order, len(data) // size, size, share.own_places(size, rank, processes))
    return Loader(_Dataset(data, transform, seed, refill=True), batches, workers, persistent=True)


def _by_shape(wide: np.ndarray, size: int, seed: int, epoch: int) -> list[int]:
    """A random order in which as many batches as can be are of one shape."""
    places = torch.randperm(len(wide), generator=torch.Generator().manual_seed(mix(seed, epoch))).numpy()
    groups = [places[wide[places]], places[~wide[places]]]
    whole = [group[: len(group) // size * size].reshape(-1, size) for group in groups]
    rest = np.concatenate([group[len(group) // size * size :] for group in groups])
    full = np.concatenate([*whole, rest[: len(rest) // size * size].reshape(-1, size)])
    # In the order of each batch's first image, which is random.
    rank_of = np.empty(len(wide), dtype=np.int64)
    rank_of[places] = np.arange(len(places))
    return full[rank_of[full[:, 0]].argsort()].reshape(-1).tolist()


def detection_eval_loader(
    data: DetectionSet, transform: WholeImage, *, batch_size: int, workers: int, rank: int = 0, processes: int = 1
) -> Loader:
    """All images in order, or every `processes`-th from `rank` on; unreadable ones are left out of their batch."""
    batches = in_order(len(data), batch_size, rank, processes)
    return Loader(_Dataset(data, transform, seed=0, refill=False), batches, workers, persistent=False)
