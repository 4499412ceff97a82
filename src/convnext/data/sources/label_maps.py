"""Images with a label map each: a picture of the same size whose numbers are classes.

    LABEL_FOLDER/images/train/a/1.jpg   LABEL_FOLDER/annotations/train/a/1.png   LABEL_FOLDER/classes.txt, a name a line

Folders called train, val or test (or training, valid, validation, dev, testing) in both are parts; that is ADE20K's
layout too, whose classes lie in objectInfo150.txt. Without any, and of train alone, nothing says what is held out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from convnext.data.images.decode import WHITE, decode_image, read_bytes
from convnext.data.problems import Problems
from convnext.data.sources.maps import MappedImage, MappedSet, check_sizes, find_map_parts, find_pairs, size_of_file
from convnext.data.sources.records import read_class_names
from convnext.errors import ImageError, InputError
from convnext.models.segmentation.losses import IGNORED

LABEL_FOLDER, LABEL_KIND = "annotations", "label map"
"""Folder of the label maps, and what a map is called."""

UNKNOWN = -2

LOWEST, HIGHEST = -(2**15), 2**16 - 1
"""The numbers that a label map may hold."""


@dataclass(frozen=True)
class LabelRules:
    """What numbers in label maps mean, as stored with the weights of a segmenter.

    Args:
        ignore_index: the number of pixels that are ignored.
        reduce_zero_label: 0 is ignored too, and 1 is the first class (ADE20K).
        label_map: which class a number is, by its name or position; None for ignored (COCO-Stuff).
    """

    ignore_index: int = 255
    reduce_zero_label: bool = False
    label_map: dict[str, Any] | None = None

    @classmethod
    def read(cls, ignore_index: int, reduce_zero_label: bool, label_map: str | Path | None) -> LabelRules:
        """The rules with the content of a JSON file. `InputError` if it cannot be read."""
        return cls(ignore_index, reduce_zero_label, None if label_map is None else _read_json(Path(label_map)))


@dataclass(frozen=True)
class SegmentationSet(MappedSet):
    """Labelled images of one part. `table` int16 gives the class of each number from `LOWEST` to `HIGHEST`: a position
    among `classes`, `IGNORED`, or `UNKNOWN`."""

    classes: tuple[str, ...]
    table: np.ndarray
    images: tuple[MappedImage, ...]

    def open(self, index: int, white: int = WHITE) -> tuple[Image.Image, np.ndarray]:
        """Image `index` and its classes, int16 `[H, W]`.

        `ImageError` if one of the two cannot be read, they differ in size, or the map has a number that is no class.
        """
        image = self.images[index]
        picture = decode_image(read_bytes(image.file), "RGB", name=str(image.file), white=white)
        labels = labels_of(image, read_map(image.map), self.table)
        check_sizes(image, picture.size, labels, kind=LABEL_KIND)
        return picture, labels


class SegmentationParts(NamedTuple):
    """The parts of a folder by name ("train", "val", "test", or "" alone where it does not say what is held out), and
    what was found wrong in listing them."""

    parts: dict[str, SegmentationSet]
    faults: Problems


def read_label_maps(data: str | Path, rules: LabelRules, *, only: Collection[str] | None = None) -> SegmentationParts:
    """The parts of a folder, or `only` some of them; images without a map are left out.

    `InputError` for a folder in another layout, without classes, or with a part of which nothing can be used.
    """
    folder, found = Path(data), find_map_parts(data, LABEL_FOLDER)
    classes = read_classes(folder)
    table = class_table(classes, rules)
    faults = Problems()
    parts = {}
    for part, name in found.items():
        if only is None or part in only:
            images = find_pairs(folder, name, LABEL_FOLDER, faults, kind=LABEL_KIND)
            if not images:
                raise InputError(f"{folder / 'images' / name}: no image with a label map; {_reason(faults)}")
            parts[part] = SegmentationSet(classes, table, tuple(images))
    return SegmentationParts(parts, faults)


def _reason(faults: Problems) -> str:
    return "; ".join(faults.lines()) or "there are none"


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names in classes.txt, or in ADE20K's objectInfo150.txt. `InputError` if there are none."""
    if (folder / "classes.txt").is_file():
        names = read_class_names(folder / "classes.txt")
    elif (folder / "objectInfo150.txt").is_file():
        rows = read_class_names(folder / "objectInfo150.txt")[1:]  # Idx, Ratio, Train, Val, Name, by tabs
        names = tuple(row.split("\t")[-1].split(",")[0].strip() for row in rows)
    else:
        raise InputError(f"{folder}: no classes.txt in it, which names the classes, one a line, from number 0 on")
    if not names:
        raise InputError(f"{folder}: its list of classes is empty")
    return names


def class_table(classes: Sequence[str], rules: LabelRules) -> np.ndarray:
    """The class of each number, as `SegmentationSet` has it. `InputError` for rules that say something else."""
    if not LOWEST <= rules.ignore_index <= HIGHEST:
        raise InputError(f"ignore_index must lie between {LOWEST} and {HIGHEST}, not {rules.ignore_index}")
    table = np.full(HIGHEST - LOWEST + 1, UNKNOWN, dtype=np.int16)
    first = int(rules.reduce_zero_label) - LOWEST
    if rules.label_map is None:
        table[first : first + len(classes)] = np.arange(len(classes))
    else:
        for number, label in rules.label_map.items():
            table[_number(number) - LOWEST] = _class_of(number, label, classes)
    if rules.reduce_zero_label:
        table[-LOWEST] = IGNORED
    table[rules.ignore_index - LOWEST] = IGNORED
    return table


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of numbers and classes")
    return content


def _number(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,5}", text, re.ASCII) or not LOWEST <= int(text) <= HIGHEST:
        raise InputError(f"label map: '{text}' is no number of a label map")
    return int(text)


def _class_of(number: str, label: Any, classes: Sequence[str]) -> int:
    if label is None:
        return IGNORED
    if label in classes:
        return classes.index(label)
    if type(label) is int and 0 <= label < len(classes):
        return label
    raise InputError(f"label map: {number} is said to be {label!r}, which is none of the {len(classes)} classes")


def read_map(path: Path) -> np.ndarray:
    """The numbers in a label map, `[H, W]`; of a palette's picture, its indices.

    `ImageError` for one that cannot be read, or that has colours.
    """
    image = decode_image(read_bytes(path), None, name=str(path))
    if image.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
        raise ImageError(
            f"{path}: colours ({image.mode}), not class numbers; save it as a grey or palette PNG of class indices"
        )
    return np.asarray(image)


def labels_of(image: MappedImage, numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The classes of a map's numbers. `ImageError` for one that is no class."""
    labels = look_up(table, numbers)
    if (labels == UNKNOWN).any():
        values = _listed(np.unique(numbers[labels == UNKNOWN]).tolist())
        raise ImageError(f"{image.map}: numbers that are no class: {values}")
    return labels


def look_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The class of each number; `UNKNOWN` for those that lie outside the table."""
    if numbers.dtype in (np.uint8, np.uint16):
        return table[-LOWEST:][numbers]
    inside = (numbers >= LOWEST) & (numbers <= HIGHEST)
    return np.where(inside, table[np.where(inside, numbers, 0) - LOWEST], UNKNOWN).astype(table.dtype)


def _counted(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers of a label map, and the count of each."""
    if numbers.dtype in (np.uint8, np.uint16):
        counts = np.bincount(numbers.ravel())
        return np.flatnonzero(counts), counts[counts > 0]
    return np.unique(numbers, return_counts=True)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")


class Examined(NamedTuple):
    """The images that can be used, how many pixels each class has in them, `[classes]`, and how many each ignored
    number."""

    data: SegmentationSet
    pixels: np.ndarray
    ignored: Counter[int]


def examine_label_maps(data: SegmentationSet, faults: Problems, *, decode: bool = False) -> Examined:
    """Reads every label map of a split, and the size of every image (with `decode`, its pixels).

    Images that cannot be used are left out and added to `faults`. Numbers that are no class say that the classes, not
    some images, are wrong: they raise `InputError`, as does a split of which nothing is left or all is ignored.
    """

    def one(image: MappedImage) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            numbers = read_map(image.map)
            check_sizes(image, size_of_file(image.file, decode=decode), numbers, kind=LABEL_KIND)
        except ImageError as error:
            return str(error)
        return _counted(numbers)

    kept, total = [], Counter[int]()
    unknown: dict[int, Path] = {}
    with ThreadPoolExecutor() as threads:
        for image, found in zip(data.images, threads.map(one, data.images), strict=True):
            if isinstance(found, str):
                faults.add("images that cannot be used", found)
                continue
            kept.append(image)
            numbers, counts = found
            total.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            for number in numbers[look_up(data.table, numbers) == UNKNOWN].tolist():
                unknown.setdefault(number, image.map)
    if unknown:
        said = ", ".join(f"{n} ({total[n]:,} pixels, first in {path})" for n, path in sorted(unknown.items())[:5])
        raise InputError(
            f"label maps have numbers that are none of the {len(data.classes)} classes: {said}"
            f"{' and more' if len(unknown) > 5 else ''}; --ignore-index N ignores one, --reduce-zero-label true counts "
            "classes from 1, --label-map FILE says what each number is"
        )
    if not kept:
        raise InputError(f"no image can be used; {_reason(faults)}")
    pixels, ignored = np.zeros(len(data.classes), dtype=np.int64), Counter[int]()
    for number, count in total.items():
        label = look_up(data.table, np.array([number])).item()
        if label >= 0:
            pixels[label] += count
        else:
            ignored[number] = count
    if not pixels.any():
        raise InputError(
            f"{data.images[0].map.parent}: every pixel is ignored; --ignore-index, --reduce-zero-label and --label-map "
            "say what a number is"
        )
    return Examined(replace(data, images=tuple(kept)), pixels, ignored)


def missing_classes(examined: Examined) -> str | None:
    """A line about classes without a pixel, where others are ignored: a wrong rule looks like that.

    `InputError` where only one class is left, from which nothing can be learnt.
    """
    classes, pixels = examined.data.classes, examined.pixels
    lacking = [name for name, count in zip(classes, pixels.tolist(), strict=True) if not count]
    if not lacking:
        return None
    share = 100 / (pixels.sum() + examined.ignored.total())
    numbers = ", ".join(f"{number} ({share * count:.1f} % of the pixels)" for number, count in examined.ignored.items())
    line = f"no pixel of {', '.join(lacking[:5])}{f' and {len(lacking) - 5} more' if len(lacking) > 5 else ''}"
    line += f"; ignored: {numbers or 'nothing'}"
    advice = "--ignore-index and --label-map FILE say what a number is"
    if len(lacking) == len(classes) - 1:
        raise InputError(f"only one of {len(classes)} classes is there: {line}; {advice}")
    return f"{line}; {advice}" if numbers else line
