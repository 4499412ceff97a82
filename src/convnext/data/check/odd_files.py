"""Files that cannot be read or differ from all others, and classes of few images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from convnext.data.check.copies import LEAST_CONTRAST
from convnext.data.check.part import CheckedPart
from convnext.data.check.problem import Problem
from convnext.data.check.scan import Scan
from convnext.printing import counted, quoted

SELDOM = 0.01
"""Share of the images up to which a number of channels or bits is odd, and so is being nearly black or white."""
SMALLEST_SIDE = 16
LONGEST_ASPECT = 4.0
"""Long side over short side, over the median of all images, from which an image is odd."""
SMALLEST_AREA = 1 / 64
"""Share of the median area below which an image is odd."""
DARKEST, BRIGHTEST = 8, 247
"""Mean grey values of 255 beyond which an image is nearly black or white."""
FEWEST_TO_TRAIN, FEWEST_TO_MEASURE = 10, 3
"""Images of a class below which it is small."""
_SHOWN = 6


def unreadable_files(scan: Scan) -> Iterator[Problem]:
    """A problem for each file that cannot be read."""
    for place, reason in scan.unreadable.items():
        path = scan.paths[place]
        words = reason.partition(f"{path}: ")[2] or reason
        yield Problem("unreadable", scan.parts[place], (path,), words, 1.0, (path,))


def odd_files(scan: Scan) -> Iterator[Problem]:
    """A problem for each image that differs from all others, in one sentence on all its oddities."""
    places = scan.readable
    if not len(places):
        return
    rows = scan.rows[places]
    width, height = rows["width"].astype(float), rows["height"].astype(float)
    area, aspect = width * height, np.maximum(width, height) / np.minimum(width, height)
    kinds = Counter(zip(rows["channels"].tolist(), rows["bits"].tolist(), strict=True))
    usual, _ = kinds.most_common(1)[0]
    dark, bright = rows["brightness"] < DARKEST, rows["brightness"] > BRIGHTEST
    extremes = [(dark, "nearly black"), (bright, "nearly white")]
    extreme = [(own, name) for own, name in extremes if own.sum() <= max(1, SELDOM * len(rows))]
    for at, place in enumerate(places.tolist()):
        row, words = rows[at], []
        blank = row["contrast"] < LEAST_CONTRAST
        if blank:
            words.append("nearly all of one colour")
        words += [name for own, name in extreme if own[at] and not blank]
        if min(width[at], height[at]) < SMALLEST_SIDE <= np.median(np.minimum(width, height)):
            words.append(f"only {width[at]:.0f}×{height[at]:.0f} pixels")
        elif area[at] < SMALLEST_AREA * np.median(area):
            words.append(f"{width[at]:.0f}×{height[at]:.0f} pixels, far fewer than most")
        if aspect[at] > LONGEST_ASPECT * np.median(aspect):
            words.append(f"{aspect[at]:.1f} times as long as wide")
        own = (int(row["channels"]), int(row["bits"]))
        if own != usual and kinds[own] <= max(1, SELDOM * len(rows)):
            words.append(f"{_said(*own)}, where most have {_said(*usual)}")
        if words:
            path = scan.paths[place]
            score = 1.0 if blank else 0.5
            yield Problem("odd", scan.parts[place], (path,), "; ".join(words), score, (path,) if blank else ())


def _said(channels: int, bits: int) -> str:
    return f"{counted(channels, 'channel')} of {bits} bits"


def small_classes(parts: Sequence[CheckedPart], unreadable: Sequence[set[int]], scan: Scan) -> Iterator[Problem]:
    """A problem for each class of which a part has too few images; of those held out, for classes that train has."""
    start, trained = 0, Counter[str]()
    for part, without in zip(parts, unreadable, strict=True):
        if part.labels:
            least = FEWEST_TO_TRAIN if part.name == "train" else FEWEST_TO_MEASURE
            counts = part.images_of_classes(without)
            if part.name == "train":
                trained.update({part.classes[label]: count for label, count in counts.items()})
            few = {
                label
                for label, name in enumerate(part.classes)
                if counts[label] < least and (part.name == "train" or trained[name])
            }
            shown: dict[int, list[str]] = {label: [] for label in few}
            for index, labels in enumerate(part.labels):
                for label in few.intersection(labels):
                    if len(shown[label]) < _SHOWN:
                        shown[label].append(scan.paths[start + index])
            for label in sorted(few):
                words = f"{counted(counts[label], 'image')} of {quoted(part.classes[label])} in {part.name}"
                yield Problem("small-class", part.name, tuple(shown[label]), words, 1 - counts[label] / least)
        start += len(part)
