"""Training and validation images, and those to measure, of data whose parts are sets of image files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from convnext.data.division import Candidate, Division, divide_as_asked
from convnext.data.exclude import ExcludeList
from convnext.data.groups import column_of_tables
from convnext.data.images.decode import read_bytes
from convnext.data.measured import choose_measured
from convnext.data.shards.members import member_name
from convnext.data.sources.file_set import ImageFileSet, NamedImage
from convnext.data.splits import (
    UNDIVIDED,
    HoldOut,
    Origin,
    Split,
    digests_of,
    divide,
    held_out_part,
    origin_of,
    parts_to_divide,
    training_parts,
    whole_key,
)
from convnext.errors import ImageError, InputError

Part = TypeVar("Part", bound=ImageFileSet)

Classes = Callable[[Any], Sequence[Mapping[str, int]]]
"""How much of each class every image of a part shows."""


def parts_to_train_on(data: str, available: Collection[str], division: Division | None) -> tuple[str, ...]:
    """The parts of some data that training and validation images are of. `InputError` where nothing is to train on."""
    return training_parts(data, available) if division is None else parts_to_divide(data, available)


def divide_images(
    data: str,
    parts: Mapping[str, Part],
    hold_out: HoldOut,
    division: Division | None = None,
    exclude: ExcludeList | None = None,
    *,
    classes: Classes | None = None,
) -> tuple[Part, Part, Origin]:
    """Divide parts of a data set into training and validation images; with their `Origin`.

    `parts` are the `parts_to_train_on`; `classes` is for a division by shares of the classes. `InputError` where either
    side would be left without images.
    """
    names, whole, left_out = listed_images(data, parts, exclude)
    keys = [image.key for image in whole.images]
    divided = names
    settled: HoldOut | None = None
    if division is not None:
        counts = classes(whole) if classes is not None and division.stratify else [{}] * len(keys)
        candidates = [Candidate(*each) for each in zip(names, keys, counts, strict=True)]
        divided, settled = divide_as_asked(data, division, candidates, partial(column_of_tables, data, whole.sources))
        keys = [whole_key(name, key) for name, key in zip(names, keys, strict=True)]
    elif UNDIVIDED in parts:
        divided, settled = divide(names, keys, None, hold_out)
    places = [[i for i, own in enumerate(divided) if (own == "train") == is_trained] for is_trained in (True, False)]
    if not all(places):
        if exclude is not None and left_out:
            raise InputError(f"{exclude.file} leaves nothing to {'hold out' if places[0] else 'train on'} of {data}")
        raise InputError(f"{data}: one image alone cannot be divided into training and validation")
    train, val = (whole.take(own) for own in places)
    origin = origin_of(settled, [keys[i] for i in places[0]], partial(_file_of, train.images), left_out)
    return train, val, origin


def divided_parts(
    data: str,
    parts: Mapping[str, Part],
    hold_out: HoldOut,
    division: Division | None = None,
    exclude: ExcludeList | None = None,
    *,
    classes: Classes | None = None,
) -> dict[str, Part]:
    """All parts of a data set by name, for a check: divided as `divide_images` does for training.

    `InputError` where nothing is to train on, or nothing can be held out.
    """
    trained = {name: parts[name] for name in parts_to_train_on(data, parts, division)}
    train, val, _ = divide_images(data, trained, hold_out, division, exclude, classes=classes)
    others = {name: part for name, part in parts.items() if name not in trained}
    return {"train": train, "val" if division is not None else held_out_part(trained) or "val": val, **others}


def measured_images(
    data: str, parts: Mapping[str, Part], split: Split | None, origin: Origin | None, exclude: ExcludeList | None = None
) -> tuple[Part, str]:
    """Join the `parts_to_read` of a data set, and choose the images to measure; with the name of the split."""
    names, whole, _ = listed_images(data, parts, exclude)
    keys, content = [image.key for image in whole.images], partial(_file_of, whole.images)
    chosen, name = choose_measured(data, names, keys, None, split=split, origin=origin, content=content)
    return whole.take(chosen), name


def listed_images(
    data: str, parts: Mapping[str, Part], exclude: ExcludeList | None
) -> tuple[list[str], Part, list[str]]:
    """The images of all parts, without those that an exclude list names.

    Returns the name of each image's part, the images, and digests of those that were left out.
    """
    names = [name for name, part in parts.items() for _ in part.images]
    first, *others = parts.values()
    whole = first.joined(others) if others else first
    if exclude is None:
        return names, whole, []
    kept = exclude.kept(data, [(source, member_name(source) or source) for source in whole.sources])
    known = set(kept)
    gone = [place for place in range(len(names)) if place not in known]
    images = [whole.images[place] for place in gone]
    digests = digests_of([names[place] for place in gone], [image.key for image in images], partial(_file_of, images))
    return [names[place] for place in kept], whole.take(kept), digests


def left_parts(data: str, parts: Mapping[str, Part], exclude: ExcludeList | None) -> dict[str, Part]:
    """The parts of a data set without the images that an exclude list names; none is empty."""
    if exclude is None:
        return dict(parts)
    names, whole, _ = listed_images(data, parts, exclude)
    return {name: whole.take([i for i, own in enumerate(names) if own == name]) for name in dict.fromkeys(names)}


def _file_of(images: Sequence[NamedImage], index: int) -> bytes:
    try:
        return read_bytes(images[index].file)
    except ImageError:
        return b""
