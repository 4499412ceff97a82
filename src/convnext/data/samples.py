"""Images with their targets: what every form of data becomes before it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.data.ahead import ReadAhead
from convnext.data.decode import Reduction, decode_image, decode_pixels, read_bytes
from convnext.data.digits import read_digits
from convnext.data.entries import Listing
from convnext.data.folders import read_folder, read_unlabelled
from convnext.data.shards import Members, is_sharded, read_shards
from convnext.data.tables import TABLE_SUFFIXES, read_table
from convnext.errors import InputError

Split = Literal["train", "val", "all"]


@dataclass(frozen=True)
class Samples:
    """N images and their targets: a class index each, or a tuple of them if `multi_label`.

    `sources` are paths, or names such as "digits/0042" for images held in memory (`images`, uint8 `[N, H, W]`), or
    "shard/name" for images in tar shards (`members`).
    """

    classes: tuple[str, ...]
    targets: list[int] | list[tuple[int, ...]]
    multi_label: bool
    sources: list[str]
    images: np.ndarray | None = field(default=None, repr=False, compare=False)
    members: Members | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.sources)

    def open(self, index: int, mode: str) -> Image.Image:
        """Image `index` as "RGB" or "L"; raises `ImageError` if it cannot be decoded."""
        if self.images is not None:
            return Image.fromarray(self.images[index]).convert(mode)
        return decode_image(self.content(index), mode, name=self.sources[index])

    def open_pixels(self, index: int, mode: str, reduction: Reduction) -> Image.Image | Tensor:
        """The same for training, perhaps smaller (`decode_pixels`)."""
        if self.images is not None:
            return self.open(index, mode)
        return decode_pixels(self.content(index), mode, name=self.sources[index], reduction=reduction)

    def content(self, index: int) -> bytes:
        """The file of image `index`."""
        return read_bytes(self.sources[index]) if self.members is None else self.members.read(index)

    def shuffled(self, seed: int) -> list[int]:
        """All positions in a random order; of shards, a few are read at a time."""
        if self.members is not None:
            return self.members.shuffled(np.random.default_rng(seed)).tolist()
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()

    def read_ahead(self, order: Sequence[int]) -> AbstractContextManager[ReadAhead | None]:
        """Inside, what has to be fetched is fetched before its turn (`reached`), if anything has to be."""
        return nullcontext() if self.members is None else self.members.read_ahead(order)

    def spread(self, count: int) -> Samples:
        """At most `count` of them, evenly spaced."""
        step = -(-len(self) // count)
        return replace(
            self,
            targets=self.targets[::step],
            sources=self.sources[::step],
            images=None if self.images is None else self.images[::step],
            members=None if self.members is None else self.members.take(slice(None, None, step)),
        )


def read_split(
    data: str | Path,
    split: Split,
    *,
    classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    multi_label: bool = False,
) -> Samples:
    """One part of `data`, in a stable order; "all" is both parts.

    `data` is a folder (`folders.read_folder`), a folder of tar shards or its address (`shards.read_shards`), a CSV, TSV
    or Parquet table (`tables.read_table`), or the word "digits" for scikit-learn's (a folder of that name is
    "./digits"). `val_fraction` is held out where the data does not say what is. With `classes`, those of a model,
    targets are positions in it and a part may lack some; without, the data is checked to be fit for training. Every
    fault raises `InputError`.
    """
    if split not in ("train", "val", "all"):
        raise InputError(f"unknown split {split!r}: it is train, val or all")
    listing = read_listing(data, classes=classes, val_fraction=val_fraction, multi_label=multi_label)
    return _select(data, listing, split, classes, multi_label)


def read_train_val(
    data: str | Path,
    *,
    classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    multi_label: bool = False,
) -> tuple[Samples, Samples]:
    """The "train" and "val" parts of `read_split`, read once, with the same classes in the same order."""
    listing = read_listing(data, classes=classes, val_fraction=val_fraction, multi_label=multi_label)
    train = _select(data, listing, "train", classes, multi_label)
    return train, _select(data, listing, "val", classes, multi_label)


def read_images(data: str | Path) -> Samples:
    """All images under a folder, flat or nested, whatever their folders say; of "digits" and shards, those of "train".

    They have no classes, and a target of 0. `InputError` for a folder that is not there or holds no image.
    """
    if data == "digits":
        listing = read_digits()
    elif is_sharded(data):
        listing = read_shards(data, None)
    else:
        listing = read_unlabelled(Path(data))
    samples = _select(data, listing, "train", None, multi_label=True)
    return replace(samples, classes=(), targets=[0] * len(samples), multi_label=False)


def read_listing(data: str | Path, *, classes: Sequence[str] | None, val_fraction: float, multi_label: bool) -> Listing:
    """What `read_split` selects from."""
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction must lie between 0 and 1, not {val_fraction}")
    path, training = Path(data), classes is None
    if data == "digits":
        return read_digits()
    if is_sharded(data):
        listing = read_shards(data, val_fraction)
        _check_labels(data, listing, multi_label)
    elif path.is_dir():
        listing = read_folder(path, val_fraction, training)
    elif not path.exists():
        raise InputError(f"{data}: no such folder or table")
    elif path.suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(f"{data}: neither a folder nor a table ({', '.join(TABLE_SUFFIXES)})")
    else:
        listing = read_table(path, val_fraction, classes, multi_label)
    if training and not multi_label:
        _check_classes(data, listing)
    return listing


def _check_labels(data: str | Path, listing: Listing, multi_label: bool) -> None:
    for entry in listing.entries:
        if len(entry.labels) != 1 and not multi_label:
            what = (
                "several labels; it takes a multi-label task"
                if entry.labels
                else "no label; `convnext pretrain` needs none"
            )
            raise InputError(f"{data}: {entry.source} has {what}")


def _check_classes(data: str | Path, listing: Listing) -> None:
    if len(listing.classes) == 1:
        raise InputError(f"{data}: only one class ({listing.classes[0]}); classification needs at least two")
    trained = {entry.labels[0] for entry in listing.entries if entry.split == "train"}
    for entry in listing.entries:
        if entry.labels[0] not in trained:
            raise InputError(f"{data}: class {entry.labels[0]} is in val and not in train ({entry.source})")


def _select(
    data: str | Path, listing: Listing, split: Split, classes: Sequence[str] | None, multi_label: bool
) -> Samples:
    chosen = [index for index, entry in enumerate(listing.entries) if split in ("all", entry.split)]
    if not chosen:
        raise InputError(f"{data}: no images in the {split} part")
    entries = [listing.entries[index] for index in chosen]
    names = listing.classes if classes is None else tuple(classes)
    position = {name: index for index, name in enumerate(names)}
    lacking = dict.fromkeys(label for entry in entries for label in entry.labels if label not in position)
    if lacking:
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise InputError(f"{data}: the model has no class {', '.join(list(lacking)[:5])}{more}")
    targets = [tuple(position[label] for label in entry.labels) for entry in entries]
    return Samples(
        classes=names,
        targets=targets if multi_label else [target[0] for target in targets],
        multi_label=multi_label,
        sources=[entry.source for entry in entries],
        images=None if listing.images is None else listing.images[chosen],
        members=None if listing.members is None else listing.members.take(chosen),
    )
