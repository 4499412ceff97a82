"""Divisions into training and measuring that are asked for: by groups, by shares of the classes, in folds, or by time.

Each is a function of the images' names, groups and classes alone, not of their order or place. What came of it is kept
with the weights, image by image (`HoldOut.listed`), so that a model is measured on what it was not trained on wherever
the data lie, and without the table that said what belongs together.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convnext.data.groups import Cells, groups_of, times_of
from convnext.data.splits import HoldOut, hash_fraction, listed_hold_out, whole_key
from convnext.errors import InputError
from convnext.printing import counted, first_names

log = logging.getLogger("convnext")

IMAGES = ""
"""Name under which images are counted, beside those of classes."""


class Candidate(NamedTuple):
    """An image that is trained on or held out.

    Fields:
        part: what the data call it: "train", "val", "test", or "" where they do not say.
        key: its name relative to the data.
        classes: how much of each class it shows.
    """

    part: str
    key: str
    classes: Mapping[str, int]


@dataclass(frozen=True)
class Division:
    """A division into training and measuring.

    Args:
        fraction: share of the images that is held out.
        group_by: what belongs together and is not divided (`groups.groups_of`).
        stratify: whether classes keep their shares in what is held out.
        fold: "K/N": hold out the K-th of N folds of one size, counted from 1.
        time_column: column of dates; the newest images are held out.
    """

    fraction: float = 0.2
    group_by: str | None = None
    stratify: bool = False
    fold: str | None = None
    time_column: str | None = None

    def __post_init__(self) -> None:
        if self.fold is not None:
            read_fold(self.fold)
        for name, other in (("fold", self.fold), ("stratify", self.stratify)):
            if self.time_column is not None and other:
                raise InputError(f"time_column holds out the newest images, and {name} others: give one of the two")

    @property
    def unit(self) -> str:
        """Units that are held out whole, in words."""
        return "images" if self.group_by is None else f"groups by {self.group_by}"

    @property
    def shares(self) -> list[float]:
        """Shares of the bins that images are put into."""
        if self.fold is None:
            return [self.fraction, 1 - self.fraction]
        return [1.0] * read_fold(self.fold)[1]

    @property
    def held_bin(self) -> int:
        """Place of the bin that is held out."""
        return 0 if self.fold is None else read_fold(self.fold)[0] - 1


def read_fold(text: str) -> tuple[int, int]:
    """Number of a fold, from 1, and of all folds. `InputError` for another text than K/N, or K beyond N."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    fold, folds = map(int, found.groups()) if found else (0, 0)
    if folds < 2 or not 1 <= fold <= folds:
        raise InputError(f"fold takes K/N, from 1/N to N/N with at least 2 folds, such as 1/5, not '{text}'")
    return fold, folds


def divide_as_asked(
    data: str | Path, division: Division, images: Sequence[Candidate], cells: Cells, *, every_class: bool = False
) -> tuple[list[str], HoldOut]:
    """For training: "train", "val" or "test" for each image, and the rule that says so.

    Images that the data call train and val are divided anew together, and those of a test part left alone. With
    `every_class`, each class is to have something to train on.

    Raises:
        InputError: fewer groups than parts, a class that would be held out whole, or groups or times that are not
            known.
    """
    own = [place for place, image in enumerate(images) if image.part != "test"]
    if said := sorted({images[place].part for place in own} - {""}):
        log.info("%s: its %s images are divided anew, as was asked", data, " and ".join(said))
    names = [whole_key(images[place].part, images[place].key) for place in own]

    def own_cells(column: str) -> Sequence[object]:
        everything = cells(column)
        return [everything[place] for place in own]

    units = names
    if division.group_by is not None:
        units = groups_of(data, division.group_by, [images[place].key for place in own], own_cells)
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for unit, place in zip(units, own, strict=True):
        sizes[unit][IMAGES] += 1
        if division.stratify:
            sizes[unit].update(images[place].classes)
    if len(sizes) < len(division.shares):
        _refuse_too_few(data, division, len(own), len(sizes))
    if division.time_column is not None:
        times = times_of(data, division.time_column, [images[place].key for place in own], own_cells)
        chosen = _newest(data, division, units, times)
    else:
        bins = balanced_bins(sizes, division.shares)
        chosen = {unit for unit, bin in bins.items() if bin == division.held_bin}
    held = [unit in chosen for unit in units]
    if every_class:
        _refuse_whole_classes(data, division, [images[place] for place in own], held)
    parts = [image.part for image in images]
    for place, is_held in zip(own, held, strict=True):
        parts[place] = "val" if is_held else "train"
    return parts, listed_hold_out(division.fraction, [name for name, own in zip(names, held, strict=True) if own])


def balanced_bins(sizes: Mapping[str, Mapping[str, int]], shares: Sequence[float]) -> dict[str, int]:
    """The bin of each unit, so that every bin has nearly its share of what is counted in each column, and none is
    empty where there are units enough.

    Units are placed by falling size, those of one size by the hash of their name, each where the squared distance from
    the shares grows least; columns count alike, and so rare classes are placed first.
    """
    totals: Counter[str] = Counter()
    for own in sizes.values():
        totals.update(own)
    columns = {name: number for number, name in enumerate(sorted(totals))}
    rows = {}
    for unit, own in sizes.items():
        places = sorted(own)
        rows[unit] = np.array([columns[p] for p in places]), np.array([own[p] / totals[p] for p in places])
    # Rounded, lest the last bit of a sum, which differs from machine to machine, decides.
    weight = {unit: float(f"{(values**2).sum():.9e}") for unit, (_, values) in rows.items()}
    have = np.zeros((len(shares), len(columns)))
    empty, share = np.ones(len(shares), dtype=bool), np.array(shares)
    order = sorted(sizes, key=lambda unit: (-weight[unit], hash_fraction(unit), unit))
    bins = {}
    for done, unit in enumerate(order):
        at, values = rows[unit]
        cost = ((2 * have[:, at] + values) * values).sum(1) / share
        if len(order) - done <= empty.sum():
            cost[~empty] = np.inf
        chosen = int(np.argmin(np.round(cost / cost.min(), 9)))
        have[chosen, at] += values
        empty[chosen] = False
        bins[unit] = chosen
    return bins


def _newest(data: str | Path, division: Division, units: Sequence[str], times: Sequence[float]) -> set[str]:
    """The units whose last image is newest, as near to the share as moments allow: what is of one moment stays
    together."""
    last: dict[str, float] = {}
    count: Counter[str] = Counter(units)
    for unit, time in zip(units, times, strict=True):
        last[unit] = max(time, last.get(unit, time))
    moments = sorted(set(last.values()), reverse=True)
    if len(moments) < 2:
        raise InputError(f"{data}: --time-column {division.time_column}: all {division.unit} are of one moment")
    images: Counter[float] = Counter()
    for unit, time in last.items():
        images[time] += count[unit]
    newer = np.cumsum([images[moment] for moment in moments[:-1]])
    cut = int(np.argmin(np.abs(newer - division.fraction * len(units))))
    return {unit for unit, time in last.items() if time >= moments[cut]}


def _refuse_too_few(data: str | Path, division: Division, images: int, units: int) -> None:
    what = counted(units, "image" if division.group_by is None else f"group by {division.group_by}", division.unit)
    if division.fold is None:
        raise InputError(f"{data}: {what} of {counted(images, 'image')} cannot be divided into training and validation")
    raise InputError(f"{data}: {what} of {counted(images, 'image')} cannot make {len(division.shares)} folds")


def _refuse_whole_classes(
    data: str | Path, division: Division, images: Sequence[Candidate], held: Sequence[bool]
) -> None:
    trained = {name for image, own in zip(images, held, strict=True) if not own for name in image.classes}
    lost = dict.fromkeys(name for image in images for name in image.classes if name not in trained)
    if lost:
        where = "" if division.fold is None else f" by fold {division.fold}"
        raise InputError(
            f"{data}: of {first_names(list(lost))}, all images would be held out{where} and none trained on: a class "
            f"needs several {division.unit}"
        )
