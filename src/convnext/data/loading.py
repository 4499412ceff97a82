"""Batches of samples, the same on every run: what is drawn for a sample depends on (seed, epoch, index) alone.

So nothing of a random state needs saving: to resume, a loader is told the epoch and the batch to begin at, and the
number of worker processes changes nothing.
"""

from __future__ import annotations

import random
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from hashlib import blake2b
from traceback import clear_frames
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from convnext.cores import usable_cores
from convnext.data.augment.transforms import Augmented, TrainTransform
from convnext.data.image_set import ImageSet
from convnext.data.images.decode import WHITE
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading_processes import in_shared_memory, leave_signals_to_parent, loaded_batches
from convnext.data.shards.prefetch import ReadAhead
from convnext.errors import ImageError, InputError
from convnext.runtime import distributed as share
from convnext.runtime.device import pins_memory

Transform = Callable[[Image.Image], Tensor]


class Batch(NamedTuple):
    """B samples, and those that could not be read, as (index, reason)."""

    pixels: Tensor  # [B, C, H, W], or of several views of an image [B * views, C, H, W]; use `on`
    targets: Tensor  # int64 [B], or float32 [B, classes] of 0 and 1 if multi-label
    indices: Tensor  # int64 [B], positions in the `ImageSet`
    unreadable: list[tuple[int, str]]
    finish: Callable[[Tensor], Tensor] | None = None  # what `pixels` still lack
    views: int = 1

    def on(self, device: torch.device | str) -> Tensor:
        """The images on a device, float32 `[B, C, H, W]`, normalised; of several views `[B, views, C, H, W]`."""
        pixels = self.pixels.to(device, non_blocking=True)
        images = pixels if self.finish is None else self.finish(pixels)
        return images if self.views == 1 else images.unflatten(0, (-1, self.views))


class Loader:
    """Iterates over the batches of one epoch; `len` is their number in a whole epoch."""

    def __init__(self, dataset: Items, batches: Batches, workers: int, persistent: bool) -> None:
        self._dataset, self._batches = dataset, batches
        self._loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=partial(in_shared_memory, dataset.collate),
            num_workers=min(workers, len(usable_cores())),
            pin_memory=pins_memory(),  # a GPU is in use
            worker_init_fn=leave_signals_to_parent,
            persistent_workers=persistent and workers > 0,
            # Workers inherit the parsed file list; with spawn each would import everything and be sent a copy.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            generator=torch.Generator(),  # else every epoch would draw from the caller's random state
        )

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Before iterating: which epoch to draw, and how many of its batches to pass over (to resume inside it)."""
        self._batches.epoch, self._batches.start = epoch, start_batch

    def __len__(self) -> int:
        return len(self._batches)

    def close(self) -> None:
        """End the loading processes. A notebook keeps an error, and with it all that was in use."""
        iterator, self._loader._iterator = self._loader._iterator, None
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()

    def __iter__(self) -> Iterator[Any]:
        batches = loaded_batches(self._loader)
        try:
            for batch in batches:
                if isinstance(batch, InputError):
                    raise batch
                if self._dataset.refill and not len(batch.indices):
                    count, (_, reason) = len(batch.unreadable), batch.unreadable[0]
                    raise InputError(f"none of the {count} images of a batch can be read; the first: {reason}")
                yield batch
        except (InputError, KeyboardInterrupt) as error:  # kept by a notebook, and with it the loading processes
            clear_frames(error.__traceback__)
            batches.close()
            self.close()
            raise


def train_loader(
    samples: ImageSet,
    transform: Transform,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    mode: str,
    views: int = 1,
    rank: int = 0,
    processes: int = 1,
) -> Loader:
    """Shuffled batches of `batch_size`, the incomplete last one dropped; fewer samples than that make one batch.

    Of each batch, process `rank` of `processes` loads its own places alone (`distributed.own_places`).

    `transform` takes images in `mode` and may draw from `random`, `numpy.random` and torch's default generator,
    whose states in this process are left alone. The places of unreadable images are filled by repeating readable
    ones of the same batch, and a batch with none raises `InputError`. Of each image there are `views`, transformed
    one after another (`Batch.on`).
    """
    size = min(batch_size, len(samples))
    batches = Batches(
        lambda epoch: samples.shuffled(mix(seed, epoch)),
        len(samples) // size,
        size,
        share.own_places(size, rank, processes),
        samples.read_ahead,
    )
    dataset = _Labelled(samples, transform, mode, seed, refill=True, views=views)
    return Loader(dataset, batches, workers, persistent=True)


def eval_loader(
    samples: ImageSet,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int,
    rank: int = 0,
    processes: int = 1,
) -> Loader:
    """All samples in order, or every `processes`-th of them from `rank` on.

    Unreadable images are left out of their batch, which may be empty: `[0, ...]`.
    """
    batches = in_order(len(samples), batch_size, rank, processes, samples.read_ahead)
    shape = (preprocessing.in_chans, preprocessing.image_size, preprocessing.image_size)
    dataset = _Labelled(samples, preprocessing, preprocessing.mode, seed=0, refill=False, shape=shape)
    return Loader(dataset, batches, workers, persistent=False)


Ahead = Callable[[Sequence[int]], AbstractContextManager[ReadAhead | None]]
"""Is told the indices that will be read, in their order (`ImageSet.read_ahead`)."""


class Batches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), of each batch the given places alone."""

    def __init__(
        self,
        order: Callable[[int], Sequence[int]],
        length: int,
        size: int,
        places: list[int],
        ahead: Ahead = lambda order: nullcontext(),
    ) -> None:
        """`order` gives the indices of an epoch; `length` is the number of batches, of `size` indices at most."""
        self.order, self.length, self.size, self.places, self.ahead = order, length, size, places, ahead
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        order = self.order(epoch)[self.start * self.size : self.length * self.size]
        with self.ahead(order) as ahead:
            for first in range(0, len(order), self.size):
                batch = order[first : first + self.size]
                if ahead is not None:
                    ahead.reached(first + self.size)
                yield [(epoch, batch[place]) for place in self.places if place < len(batch)]


def in_order(
    count: int, batch_size: int, rank: int = 0, processes: int = 1, ahead: Ahead = lambda order: nullcontext()
) -> Batches:
    """Batches of the indices under `count` in their order, or of every `processes`-th of them from `rank` on."""
    own = range(rank, count, processes)
    return Batches(lambda epoch: own, -(-len(own) // batch_size), batch_size, list(range(batch_size)), ahead)


Item = tuple[int, Any]
"""An index with what `read` made of its image; or with the reason, a text, why that is unreadable; or with an
`InputError`, where no others will be readable either."""


class Items(Dataset[Item], ABC):
    """(epoch, index) to an `Item`. A kind of data says what an image becomes, and what a batch is."""

    def __init__(self, seed: int, refill: bool) -> None:
        self.seed = seed
        self.refill = refill  # unreadable images: in training their places are filled, in evaluation they are left out

    @abstractmethod
    def source(self, index: int) -> str:
        """Place of an image."""

    @abstractmethod
    def read(self, index: int) -> Any:
        """An image as the network takes it, and what belongs to it. `ImageError` if it is unreadable."""

    @abstractmethod
    def batch(self, readable: list[tuple[int, Any]], unreadable: list[tuple[int, str]]) -> Any:
        """Results of `read`, with the indices, as a batch; `readable` may be empty."""

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        try:
            with _seeded(mix(self.seed, epoch, index)):
                return index, self.read(index)
        except ImageError as error:
            source, reason = self.source(index), str(error)
            return index, reason if source in reason else f"{source}: {reason}"
        except InputError as error:  # a shard, say; returned, for what is raised arrives as a traceback in text
            return index, error

    def collate(self, items: list[Item]) -> Any:
        for _, result in items:
            if isinstance(result, InputError):
                return result
        unreadable = [(index, result) for index, result in items if isinstance(result, str)]
        readable = [(index, result) for index, result in items if not isinstance(result, str)]
        if self.refill and readable:
            readable += [readable[n % len(readable)] for n in range(len(unreadable))]
        return self.batch(readable, unreadable)


class _Labelled(Items):
    """Images with their targets."""

    def __init__(
        self,
        samples: ImageSet,
        transform: Transform,
        mode: str,
        seed: int,
        refill: bool,
        shape: tuple[int, ...] = (),
        views: int = 1,
    ) -> None:
        super().__init__(seed, refill)
        self.views = views
        self.samples, self.transform, self.mode = samples, transform, mode
        self.white = getattr(transform, "white", WHITE)
        self.shape = shape  # of one image, for a batch left without any

    def source(self, index: int) -> str:
        return self.samples.sources[index]

    def read(self, index: int) -> list[Tensor] | list[Augmented]:
        if isinstance(self.transform, TrainTransform):
            encoded = self.samples.encoded(index, self.mode, self.white)
            return [self.transform.reading(encoded) for _ in range(self.views)]
        image = self.samples.open(index, self.mode, self.white)
        return [self.transform(image) for _ in range(self.views)]

    def batch(self, readable: list[tuple[int, Any]], unreadable: list[tuple[int, str]]) -> Batch:
        indices, images = [index for index, _ in readable], [view for _, views in readable for view in views]
        finish = None
        if isinstance(self.transform, TrainTransform):
            finish = self.transform.finish(image.erased for image in images)
            images = [image.pixels for image in images]
        pixels = torch.stack(images) if images else torch.empty(0, *self.shape)
        return Batch(
            pixels, self._targets(indices), torch.tensor(indices, dtype=torch.int64), unreadable, finish, self.views
        )

    def _targets(self, indices: list[int]) -> Tensor:
        if not self.samples.multi_label:
            return torch.tensor([self.samples.targets[index] for index in indices], dtype=torch.int64)
        multi_hot = torch.zeros(len(indices), len(self.samples.classes))
        for row, index in enumerate(indices):
            multi_hot[row, self.samples.targets[index]] = 1
        return multi_hot


def mix(*numbers: int) -> int:
    """A seed of 63 bits from integers: near ones give unrelated seeds."""
    digest = blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The three global generators that transforms draw from, seeded inside and as before outside."""
    # A worker process has no draws of its own to protect, and numpy's state takes 0.1 ms to save and restore.
    mine = get_worker_info() is None
    states = (random.getstate(), np.random.get_state(), torch.get_rng_state()) if mine else None
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would queue a call for CUDA every time
    try:
        yield
    finally:
        if states:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
