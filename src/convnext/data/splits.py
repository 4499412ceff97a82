"""Division of images into training and measuring: by the data's own parts, by a hash of each image's name, or as it was
asked for (`division`).

A model's weights carry its `Origin`: the rule by which images were held out, and a sample of those it was trained on.
So whoever measures it, from a run or from a copied file, on moved data or with files added, holds out the same images,
and data it was not trained on are measured whole.
"""

from __future__ import annotations

import dataclasses
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import PurePath, PurePosixPath
from typing import Any, Literal

from convnext.errors import InputError
from convnext.printing import counted

log = logging.getLogger("convnext")

Split = Literal["train", "val", "test", "all"]

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The names of folders, files and table cells that stand for each part, in any case."""

HELD_OUT = ("val", "test")
"""The parts that can be held out of training, the one that is taken first."""

UNDIVIDED = ""
"""The part of images of which the data do not say whether they are held out."""

RULE = 2
"""The rule of new runs. 0 and 1 are those of runs made before it, of dense tasks and of classification."""

DIGEST_SIZE = 8
"""Bytes of a digest of a name or a content."""

SAMPLE = 32
"""Number of training images whose digests are stored, to recognise the data again."""


def part_of_name(name: str) -> str | None:
    """The part that a folder or table calls by this name: "train", "val" or "test"; None for other names."""
    return next((part for part, names in PART_NAMES.items() if name.lower() in names), None)


def held_out_part(parts: Collection[str]) -> str | None:
    """The part that training holds out, of those there are."""
    return next((part for part in HELD_OUT if part in parts), None)


def hash_fraction(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone: not on the machine, the order or other keys."""
    return int.from_bytes(_digest(key), "big") / 2**64


def _digest(key: str) -> bytes:
    # One form of Unicode, since some file systems hand names back in another than they were given.
    text = unicodedata.normalize("NFC", key).encode("utf-8", "surrogateescape")
    return blake2b(text, digest_size=DIGEST_SIZE).digest()


@dataclass(frozen=True)
class HoldOut:
    """A rule that says which images are held out where the data do not.

    Args:
        fraction: share of the images that is held out.
        rule: 2 takes an image whose hash lies below `fraction`, so that others, added later, do not move it. 1 also
            moved images so that each class had one on either side, by the order of their hashes. 0 hashed the name of
            the file without its folders.
        moved: under rule 2, images of small data that are held out (True) or not (False) whatever their hash, by their
            hash in hexadecimal digits.
        listed: the hashes of all images that are held out, by their `whole_key`, where a division was asked for; None
            where the rule says it.
    """

    fraction: float = 0.2
    rule: int = RULE
    moved: Mapping[str, bool] = field(default_factory=dict)
    listed: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InputError(f"val_fraction must lie between 0 and 1, not {self.fraction}")
        if self.rule not in (0, 1, RULE):
            raise InputError(f"images were held out by rule {self.rule}, which this version does not know; update it")

    def held(self, keys: Sequence[str], groups: Sequence[str] | None = None) -> list[bool]:
        """Whether each image is held out; `keys` are names relative to the data, `groups` their classes, if they have
        one each."""
        if self.listed is not None:
            chosen = set(self.listed)
            return [_digest(key).hex() in chosen for key in keys]
        if self.rule == 0:
            return _by_base_name(keys, self.fraction)
        held = [hash_fraction(key) < self.fraction for key in keys]
        if self.rule == 1:
            return _one_on_either_side(held, keys, groups)
        return [self.moved.get(_digest(key).hex(), own) for key, own in zip(keys, held, strict=True)]

    def settled(self, keys: Sequence[str], groups: Sequence[str] | None = None) -> HoldOut:
        """The rule for training on these images, with what few images need: every class keeps one to train on,
        something is left to measure, and no less is trained on than held out, unless that was asked for.

        What is moved for it, boxes of one image together, is part of the rule: images added later do not change it.
        """
        if self.rule != RULE or not keys or self.listed is not None:
            return self
        before = dict(zip(keys, self.held(keys, groups), strict=True))
        held, order = dict(before), sorted(before, key=hash_fraction)
        rank = {key: place for place, key in enumerate(order)}
        of_group: dict[str, list[str]] = defaultdict(list)
        for place, group in sorted({(rank[k], g) for k, g in zip(keys, groups or [""] * len(keys), strict=True)}):
            of_group[group].append(order[place])
        for members in of_group.values():
            if all(held[key] for key in members):
                held[members[-1]] = False
        alone = {members[0] for members in of_group.values() if len(members) == 1}
        if not any(held.values()) and (first := next((key for key in order if key not in alone), None)) is not None:
            held[first] = True
        last = [key for key in order if held[key]]
        while self.fraction <= 0.5 and len(last) > 1 and 2 * len(last) > len(held):
            held[last.pop()] = False
        moved = {_digest(key).hex(): held[key] for key in order if held[key] != before[key]}
        return HoldOut(self.fraction, self.rule, {**self.moved, **moved})


def whole_key(part: str, key: str) -> str:
    """Name of an image of data whose own parts do not count, since two of them may have images of one name."""
    return f"{part}/{key}" if part else key


def listed_hold_out(fraction: float, keys: Iterable[str]) -> HoldOut:
    """The rule that holds out the images of these names alone."""
    return HoldOut(fraction, listed=tuple(sorted(_digest(key).hex() for key in keys)))


def _by_base_name(keys: Sequence[str], fraction: float) -> list[bool]:
    shares = [hash_fraction(PurePosixPath(key).name) for key in keys]
    count = min(max(1, sum(share < fraction for share in shares)), len(keys) - 1)
    first = set(sorted(range(len(keys)), key=shares.__getitem__)[:count])
    return [i in first for i in range(len(keys))]


def _one_on_either_side(held: list[bool], keys: Sequence[str], groups: Sequence[str] | None) -> list[bool]:
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups or ()):
        members[group].append(index)
    for indices in members.values():
        indices.sort(key=lambda i: hash_fraction(keys[i]))
        held[indices[-1]] = False
        if len(indices) > 1:
            held[indices[0]] = True
    return held


@dataclass(frozen=True)
class Origin:
    """The data a model was trained on, as stored with its weights.

    `hold_out` is the rule that divided them, None where they say themselves what is held out. `sample` has the digests
    of some training images' contents by those of their names; None where it was not stored, by versions before it: then
    undivided data are taken for those. `left_out` has the digests of name and content, and the part, in one text, of
    images that an exclude list left out.
    """

    hold_out: HoldOut | None
    sample: Mapping[str, str] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def divides_anew(self) -> bool:
        """Whether the parts of the data did not count, since a division was asked for."""
        return self.hold_out is not None and self.hold_out.listed is not None

    def is_of(self, keys: Sequence[str], content: Callable[[int], bytes]) -> bool:
        """Whether images of these names and contents are those the model was trained on: a quarter of the sample at
        least is among them."""
        return self.sample is None or 4 * self.known(keys, content) >= max(len(self.sample), 1)

    def known(self, keys: Sequence[str], content: Callable[[int], bytes]) -> int:
        """How many of the sample are among images of these names and contents."""
        sample = self.sample or {}
        found = {name: i for i, key in enumerate(keys) if (name := _digest(key).hex()) in sample}
        return sum(_content_digest(content(i)) == sample[name] for name, i in found.items())

    def without_left_out(
        self,
        data: object,
        places: Sequence[int],
        parts: Sequence[str],
        keys: Sequence[str],
        content: Callable[[int], bytes],
    ) -> list[int]:
        """The places of images that were not left out of training; how many were is said in the log. Of copies of one
        name in two parts, one was."""
        gone = set(self.left_out)
        names = {each[: 2 * DIGEST_SIZE] for each in gone}

        def is_gone(place: int) -> bool:
            if not names or (name := _digest(keys[place]).hex()) not in names:
                return False
            part = parts[place] or part_of_name(PurePath(str(data)).name)
            image = name + _content_digest(content(place))
            return any(image + own in gone for own in (UNDIVIDED, *([part] if part else PART_NAMES)))

        kept = [place for place in places if not is_gone(place)]
        if len(kept) < len(places):
            count = counted(len(places) - len(kept), "image")
            log.info("%s: left out, as in training: %s; --split all takes all", data, count)
        return kept

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Origin:
        """The inverse of `to_dict`. `InputError` for what it did not write."""
        try:
            rule, sample = values["hold_out"], values["sample"]
            hold_out = None if rule is None else HoldOut(**rule)
            if hold_out is not None and hold_out.listed is not None:
                hold_out = dataclasses.replace(hold_out, listed=tuple(hold_out.listed))  # JSON has a list
            return cls(hold_out, None if sample is None else dict(sample), tuple(values.get("left_out", ())))
        except (TypeError, ValueError, LookupError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"what the weights say of their data cannot be read: {error}") from None


def _content_digest(content: bytes) -> str:
    return blake2b(content, digest_size=DIGEST_SIZE).hexdigest()


def origin_of(
    hold_out: HoldOut | None,
    keys: Sequence[str],
    content: Callable[[int], bytes],
    left_out: Iterable[str] = (),
) -> Origin:
    """The origin of a model that is trained on images of these names and contents; `left_out` as in `Origin`."""
    chosen = sorted(range(len(keys)), key=lambda i: _digest(keys[i]))[:SAMPLE]
    sample = {_digest(keys[i]).hex(): _content_digest(content(i)) for i in chosen}
    return Origin(hold_out, sample, tuple(sorted(left_out)))


def digests_of(parts: Sequence[str], keys: Sequence[str], content: Callable[[int], bytes]) -> list[str]:
    """Digests of images' names and contents with their parts, as `Origin.left_out` has them."""
    return [_digest(key).hex() + _content_digest(content(i)) + parts[i] for i, key in enumerate(keys)]


def divide(
    parts: Sequence[str], keys: Sequence[str], groups: Sequence[str] | None, hold_out: HoldOut
) -> tuple[list[str], HoldOut | None]:
    """For training: "train", "val" or "test" for each image.

    `parts` are what the data say of each; those they leave undivided are divided by the rule, which is given back as
    settled for them, or None where it had nothing to divide.
    """
    if UNDIVIDED not in parts:
        return list(parts), None
    undivided = [i for i, part in enumerate(parts) if part == UNDIVIDED]
    names = [keys[i] for i in undivided]
    classes = None if groups is None else [groups[i] for i in undivided]
    settled = hold_out.settled(names, classes)
    divided = list(parts)
    for i, held in zip(undivided, settled.held(names, classes), strict=True):
        divided[i] = "val" if held else "train"
    return divided, settled


def training_parts(data: object, available: Collection[str]) -> tuple[str, ...]:
    """The parts that are trained on and held out, of those there are. `InputError` where nothing is to train on."""
    if UNDIVIDED in available:
        return (UNDIVIDED,)
    if "train" not in available:
        raise InputError(f"{data}: there is {' and '.join(available)} but nothing to train on beside it")
    return tuple(part for part in ("train", held_out_part(available)) if part is not None)


def parts_to_divide(data: object, available: Collection[str]) -> tuple[str, ...]:
    """The parts that are divided anew where that is asked for: all but a test part. `InputError` without any."""
    if not (found := tuple(part for part in available if part != "test")):
        raise InputError(f"{data}: there is test but nothing to train on beside it")
    return found
