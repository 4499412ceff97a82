"""Images with their targets: what every form of data becomes before it is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from convnext.data.division import Candidate, Division, divide_as_asked
from convnext.data.exclude import ExcludeList
from convnext.data.groups import column_of_tables
from convnext.data.images.decode import WHITE, decode_image, read_bytes
from convnext.data.images.encoded import DecodedImage, EncodedImage
from convnext.data.measured import choose_measured
from convnext.data.shards.prefetch import ReadAhead
from convnext.data.sources.columns import ColumnImages
from convnext.data.sources.crops import Crops
from convnext.data.sources.frames import FRAME_RATE
from convnext.data.sources.hub import fetched
from convnext.data.sources.listing import read_listing, read_unlabelled_listing
from convnext.data.sources.records import DataListing, ImageRecord, Members
from convnext.data.splits import (
    HELD_OUT,
    UNDIVIDED,
    HoldOut,
    Origin,
    Split,
    digests_of,
    divide,
    held_out_part,
    origin_of,
    whole_key,
)
from convnext.errors import ImageError, InputError
from convnext.printing import first_names


@dataclass(frozen=True)
class ImageSet:
    """N images and their targets: a class index each, or a tuple of them if `multi_label`.

    `sources` are paths, or names such as "digits/0042" for images held in memory (`images`, uint8 `[N, H, W]`), or
    "shard/name" for images in tar shards (`members`). `part` is what the data call them: "train", "val", "test" or
    "all". `excluded` is how many others of the data an exclude list left out.
    """

    classes: tuple[str, ...]
    targets: list[int] | list[tuple[int, ...]]
    multi_label: bool
    sources: list[str]
    images: np.ndarray | None = field(default=None, repr=False, compare=False)
    members: Members | None = field(default=None, repr=False, compare=False)
    part: str = field(default="", compare=False)
    excluded: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.sources)

    def open(self, index: int, mode: str, white: int = WHITE) -> Image.Image:
        """Image `index` as "RGB" or "L"; raises `ImageError` if it cannot be decoded."""
        if self.images is not None:
            return Image.fromarray(self.images[index]).convert(mode)
        return decode_image(self.content(index), mode, name=self.sources[index], white=white)

    def encoded(self, index: int, mode: str, white: int = WHITE) -> EncodedImage | DecodedImage:
        """Image `index` for training, which says how small it may be decoded; raises `ImageError`."""
        if self.images is not None:
            return DecodedImage(self.open(index, mode))
        return EncodedImage(self.content(index), mode, name=self.sources[index], white=white)

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

    def spread(self, count: int) -> ImageSet:
        """At most `count` of them, evenly spaced in the order of their classes: in a table those may alternate, and
        every second image be of one."""
        targets: list = self.targets
        by_class = sorted(range(len(self)), key=targets.__getitem__)
        return self.take(sorted(by_class[:: -(-len(self) // count)]))

    def take(self, places: Sequence[int]) -> ImageSet:
        """The set of the images at some places, in that order; an image may come several times."""
        chosen = list(places)
        targets: list = [self.targets[place] for place in chosen]
        return replace(
            self,
            targets=targets,
            sources=[self.sources[place] for place in chosen],
            images=None if self.images is None else self.images[chosen],
            members=None if self.members is None else self.members.take(chosen),
        )

    def joined(self, others: Sequence[ImageSet]) -> ImageSet:
        """Concatenate with other parts of the same data, which have the same classes."""
        every = (self, *others)
        images = [each.images for each in every if each.images is not None]
        members = [each.members for each in every if each.members is not None]
        targets: list = [target for each in every for target in each.targets]
        return replace(
            self,
            targets=targets,
            sources=[source for each in every for source in each.sources],
            images=np.concatenate(images) if images else None,
            members=members[0].joined(members[1:]) if members else None,
        )


class TrainingData(NamedTuple):
    """Training and validation images, and the record of them that is stored with the weights."""

    train: ImageSet
    val: ImageSet
    origin: Origin


def read_split(
    data: str | Path,
    split: Split | None = None,
    *,
    classes: Sequence[str] | None = None,
    multi_label: bool = False,
    origin: Origin | None = None,
    form: str | None = None,
    exclude: ExcludeList | None = None,
) -> ImageSet:
    """The images of one part of `data` in a stable order, for measuring (`measured.measured_parts`).

    `data` is what `read_listing` takes, of the form `form`, without what `exclude` lists. With `classes`, those of a
    model, targets are positions in it and a part may lack some; without, the data are checked to be fit for training.
    `origin` is the model's. Every fault raises `InputError`.
    """
    listing, _ = without_excluded(data, read_listing(data, classes, multi_label, form), exclude)
    if classes is None and not multi_label:
        _check_classes(data, listing)
    parts, keys = zip(*((entry.part, entry.key) for entry in listing.entries), strict=True)
    groups, content = _groups(listing, multi_label), partial(_identity, listing)
    chosen, part = choose_measured(data, parts, keys, groups, split=split, origin=origin, content=content)
    return _select(data, listing, chosen, classes, multi_label, part)


def read_train_val(
    data: str | Path,
    *,
    classes: Sequence[str] | None = None,
    hold_out: HoldOut | None = None,
    multi_label: bool = False,
    form: str | None = None,
    division: Division | None = None,
    exclude: ExcludeList | None = None,
) -> TrainingData:
    """Training and held-out images of `data` (`read_split`), with the same classes in the same order.

    `hold_out` divides data that do not say what is held out; `division` divides others too. Images that `exclude` lists
    are in neither part.
    """
    listing, left_out = without_excluded(data, read_listing(data, classes, multi_label, form), exclude)
    divided, settled = _divided(data, listing, hold_out or HoldOut(), division, multi_label)
    if classes is None and not multi_label:
        _check_classes(data, divided)
    part = held_out_part({entry.part for entry in divided.entries}) or "val"
    chosen = {name: [i for i, entry in enumerate(divided.entries) if entry.part == name] for name in ("train", part)}
    train, val = (_select(data, divided, own, classes, multi_label, name) for name, own in chosen.items())
    trained = chosen["train"]
    of_data = [listing.entries[i] for i in trained]
    keys = [entry.key if division is None else whole_key(entry.part, entry.key) for entry in of_data]
    return TrainingData(train, val, origin_of(settled, keys, lambda i: _identity(divided, trained[i]), left_out))


def _divided(
    data: str | Path, listing: DataListing, hold_out: HoldOut, division: Division | None, multi_label: bool
) -> tuple[DataListing, HoldOut | None]:
    if division is None:
        return divide_listing(listing, hold_out, multi_label)
    images = [Candidate(entry.part, entry.key, Counter(entry.labels)) for entry in listing.entries]
    cells = partial(_cells, data, listing)
    parts, settled = divide_as_asked(data, division, images, cells, every_class=not multi_label)
    entries = [entry._replace(part=part) for entry, part in zip(listing.entries, parts, strict=True)]
    return replace(listing, entries=entries), settled


def _cells(data: str | Path, listing: DataListing, column: str) -> Sequence[Any]:
    """The cells of a column, one an image (`groups.Cells`)."""
    if isinstance(listing.members, ColumnImages):
        return listing.members.cells(column)
    return column_of_tables(data, _files(listing), column)


def _files(listing: DataListing) -> Sequence[str]:
    return source_files(listing.members, [entry.source for entry in listing.entries])


def source_files(members: Members | None, sources: Sequence[str]) -> Sequence[str]:
    """The file that each image is in, by `sources`; of boxes of objects, that of the image they are cut from."""
    return members.files if isinstance(members, Crops) else sources


def without_excluded(
    data: str | Path, listing: DataListing, exclude: ExcludeList | None
) -> tuple[DataListing, list[str]]:
    """A listing without the images of a list, and digests of those that are left out (`splits.Origin`).

    Classes of which no image is left are no classes.
    """
    if exclude is None:
        return listing, []
    inside = listing.members is not None  # in shards, where images have names of their own
    names = [
        (entry.source, file, entry.key) if inside else (entry.source, file)
        for entry, file in zip(listing.entries, _files(listing), strict=True)
    ]
    kept = exclude.kept(data, names)
    gone = sorted(set(range(len(names))).difference(kept))
    left = [listing.entries[i] for i in gone]
    parts, keys = [entry.part for entry in left], [entry.key for entry in left]
    digests = digests_of(parts, keys, lambda at: _identity(listing, gone[at]))
    entries = [listing.entries[i] for i in kept]
    return DataListing(
        entries=entries,
        classes=_classes_left(listing, entries),
        images=None if listing.images is None else listing.images[kept],
        members=None if listing.members is None else listing.members.take(kept),
    ), digests


def _classes_left(listing: DataListing, kept: Sequence[ImageRecord]) -> tuple[str, ...]:
    before, after = ({label for entry in own for label in entry.labels} for own in (listing.entries, kept))
    return tuple(name for name in listing.classes if name in after or name not in before)


def read_all_parts(
    data: str | Path,
    *,
    hold_out: HoldOut,
    multi_label: bool = False,
    form: str | None = None,
    division: Division | None = None,
    exclude: ExcludeList | None = None,
) -> list[ImageSet]:
    """The images of every part of `data`, for a check: as `read_train_val` has them, and those of test."""
    whole = read_listing(data, None, multi_label, form)
    alone = _left_alone(data, whole, multi_label, form)
    everything = replace(whole, entries=[*whole.entries, *alone.entries])
    kept, _ = without_excluded(data, everything, exclude)
    own = [entry for entry in kept.entries if entry.part != "test" or not alone.entries]
    if exclude is not None and not own:
        raise InputError(f"{exclude.file} leaves no image of {data} to train on")
    listing = replace(kept, entries=own, classes=_classes_left(whole, own))
    divided, _ = _divided(data, listing, hold_out, division, multi_label)
    if not multi_label:
        _check_classes(data, divided)
    chosen: dict[str, list[int]] = {}
    for index, entry in enumerate(divided.entries):
        chosen.setdefault(entry.part, []).append(index)
    parts = [part for part in ("train", *HELD_OUT) if part in chosen]
    sets = [_select(data, divided, chosen[part], None, multi_label, part) for part in parts]
    if tested := [entry for entry in kept.entries if entry.part == "test"] if alone.entries else []:
        sets.append(_select(data, replace(alone, entries=tested), list(range(len(tested))), None, multi_label, "test"))
    return sets


def read_every_part(data: str | Path, *, form: str | None = None, exclude: ExcludeList | None = None) -> ImageSet:
    """Read the images of all parts, test included, as one set with the classes of all; each image has one label."""
    trained = read_listing(data, None, False, form)
    alone = _left_alone(data, trained, False, form)
    whole = replace(trained, entries=[*trained.entries, *alone.entries], classes=alone.classes)
    listing, _ = without_excluded(data, whole, exclude)
    _check_classes(data, listing)
    return _select(data, listing, list(range(len(listing.entries))), None, False, "all")


def _left_alone(data: str | Path, listing: DataListing, multi_label: bool, form: str | None) -> DataListing:
    """The test images of a folder that its training does not list."""
    if any(entry.part == "test" for entry in listing.entries) or not Path(fetched(data)).is_dir():
        return replace(listing, entries=[])
    whole = read_listing(data, listing.classes, multi_label, form)
    return replace(whole, entries=[entry for entry in whole.entries if entry.part == "test"])


def _identity(listing: DataListing, index: int) -> bytes:
    """Bytes that tell an image from another of the same name: the file's content, or what its `Members` say."""
    if listing.images is not None:
        return listing.images[index].tobytes()
    if listing.members is not None:
        return listing.members.identity(index)
    try:
        return read_bytes(listing.entries[index].source)
    except ImageError:
        return b""


def divide_listing(listing: DataListing, hold_out: HoldOut, multi_label: bool) -> tuple[DataListing, HoldOut | None]:
    """A listing all of whose images are of a part, and the rule that divided them (`splits.divide`)."""
    parts, keys = zip(*((entry.part, entry.key) for entry in listing.entries), strict=True)
    divided, settled = divide(parts, keys, _groups(listing, multi_label), hold_out)
    entries = [entry._replace(part=part) for entry, part in zip(listing.entries, divided, strict=True)]
    return replace(listing, entries=entries), settled


def _groups(listing: DataListing, multi_label: bool) -> list[str] | None:
    """The class of each image, where each has one."""
    return None if multi_label else [entry.labels[0] if entry.labels else "" for entry in listing.entries]


def read_images(data: str | Path, exclude: ExcludeList | None = None, *, frame_rate: float = FRAME_RATE) -> ImageSet:
    """All images under a folder, flat or nested, whatever their folders say, but for label maps; of "digits", a table
    and shards, those of "train"; of a file of annotations, all that it lists; of videos, so many frames a second.

    They have no classes, and a target of 0. Images that `exclude` lists are left out. `InputError` for a folder that is
    not there or holds no image.
    """
    everything = read_unlabelled_listing(data, frame_rate)
    listing, _ = without_excluded(data, everything, exclude)
    excluded = len(everything.entries) - len(listing.entries)
    chosen = [i for i, entry in enumerate(listing.entries) if entry.part in ("train", UNDIVIDED)]
    samples = _select(data, listing, chosen, None, True, "train")
    return replace(samples, classes=(), targets=[0] * len(samples), multi_label=False, excluded=excluded)


def _check_classes(data: str | Path, listing: DataListing) -> None:
    if len(listing.classes) == 1:
        raise InputError(f"{data}: only one class ({listing.classes[0]}); classification needs at least two")
    trained = {entry.labels[0] for entry in listing.entries if entry.part in ("train", UNDIVIDED)}
    held_out = held_out_part({entry.part for entry in listing.entries})
    for entry in listing.entries:
        if entry.part == held_out and entry.labels[0] not in trained:
            raise InputError(f"{data}: class {entry.labels[0]} is in {held_out} and not in train ({entry.source})")


def _select(
    data: str | Path,
    listing: DataListing,
    chosen: list[int],
    classes: Sequence[str] | None,
    multi_label: bool,
    part: str,
) -> ImageSet:
    if not chosen:
        raise InputError(f"{data}: no images in the {part} part")
    entries = [listing.entries[index] for index in chosen]
    names = listing.classes if classes is None else tuple(classes)
    position = {name: index for index, name in enumerate(names)}
    lacking = dict.fromkeys(label for entry in entries for label in entry.labels if label not in position)
    if lacking:
        raise InputError(f"{data}: the model has no class {first_names(list(lacking))}")
    targets = [tuple(position[label] for label in entry.labels) for entry in entries]
    return ImageSet(
        classes=names,
        targets=targets if multi_label else [target[0] for target in targets],
        multi_label=multi_label,
        sources=[entry.source for entry in entries],
        part=part,
        images=None if listing.images is None else listing.images[chosen],
        members=None if listing.members is None else listing.members.take(chosen),
    )
