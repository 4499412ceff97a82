"""Images with a label map each: a picture of the same size whose numbers are classes, or outlines drawn as one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from convnext.data.images.decode import WHITE, decode_image, read_bytes, upright_size_of_file
from convnext.data.problems import UNUSABLE, Problems
from convnext.data.rle import to_masks
from convnext.data.sources.annotated import AnnotatedImage
from convnext.data.sources.documents import read_json
from convnext.data.sources.maps import MappedImage, MappedSet, check_sizes
from convnext.errors import ImageError, InputError
from convnext.printing import first_names

LABEL_KIND = "label map"
"""Name of a map in messages."""

IGNORED = -1
"""The class of pixels that neither teach nor count."""

UNKNOWN = -2
"""The class of pixels whose number the rules do not know."""

LOWEST, HIGHEST = -(2**15), 2**16 - 1
"""The numbers that a label map may hold."""


@dataclass(frozen=True)
class LabelRules:
    """Meaning of the numbers in label maps, as stored with the weights of a segmenter.

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
        return cls(ignore_index, reduce_zero_label, None if label_map is None else _read_rules(Path(label_map)))


@dataclass(frozen=True)
class SegmentationSet(MappedSet):
    """Labelled images of one part. `table` int16 gives the class of each number from `LOWEST` to `HIGHEST`: a position
    among `classes`, `IGNORED`, or `UNKNOWN`."""

    classes: tuple[str, ...]
    table: np.ndarray
    images: tuple[MappedImage, ...]
    colours: Mapping[int, int] | None = field(default=None, compare=False)
    """Number of each colour, where maps are coloured pictures (`class_lists.ClassList`)."""
    objects: Mapping[Path, AnnotatedImage] | None = field(default=None, compare=False)
    """Objects of each image, by its file, where maps are drawn from their outlines."""
    segments: Mapping[Path, Mapping[int, int]] | None = field(default=None, compare=False)
    """Number of each segment's colour, by the file of the map, where maps are panoptic."""

    def numbers(self, image: MappedImage) -> np.ndarray:
        """The numbers in an image's label map, `[H, W]`. `ImageError` if it cannot be read."""
        if self.segments is not None:
            return read_segments(image.map, self.segments[image.map])
        return read_map(image.map, self.colours) if self.objects is None else draw_map(self.objects[image.file])

    def joined(self, others: Sequence[SegmentationSet]) -> SegmentationSet:
        """The images of this and of other parts, which have the same classes."""
        parts = (self, *others)
        drawn = [each.objects for each in parts if each.objects is not None]
        coloured = [each.segments for each in parts if each.segments is not None]
        objects = {file: image for own in drawn for file, image in own.items()} if drawn else None
        segments = {file: colours for own in coloured for file, colours in own.items()} if coloured else None
        return replace(super().joined(others), objects=objects, segments=segments)

    def open(self, index: int, white: int = WHITE) -> tuple[Image.Image, np.ndarray]:
        """Image `index` and its classes, int16 `[H, W]`.

        `ImageError` if one of the two cannot be read, they differ in size, or the map has a number that is no class.
        """
        image = self.images[index]
        picture = decode_image(read_bytes(image.file), "RGB", name=str(image.file), white=white)
        labels = labels_of(image, self.numbers(image), self.table)
        check_sizes(image, picture.size, labels, kind=LABEL_KIND)
        return picture, labels


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


BACKGROUND = ("background", "_background_", "__background__")
"""Names of the class of pixels that no outline covers."""


def drawn_table(classes: Sequence[str], rules: LabelRules) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes of maps drawn from outlines of objects of some classes, with "background" around them, and the class
    of each number as `draw_map` draws it. An `ignore_index` of 0 ignores what no outline covers instead."""
    names, table = tuple(classes), class_table((), LabelRules())
    around = next((name for name in names if name.lower() in BACKGROUND), None)
    if rules.ignore_index != 0 and around is None:
        around = BACKGROUND[0]
        names = (around, *names)
    for label, name in enumerate(classes):
        table[label + 1 - LOWEST] = names.index(name)
    table[-LOWEST] = IGNORED if rules.ignore_index == 0 or around is None else names.index(around)
    return names, table


def _read_rules(path: Path) -> dict[str, Any]:
    content = read_json(path)
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


def read_map(path: Path, colours: Mapping[int, int] | None = None) -> np.ndarray:
    """The numbers in a label map, `[H, W]`; of a palette's picture, its indices.

    With `colours`, those of a coloured picture or a palette are the numbers; other colours become numbers below those
    of any class (`colour_number`). `ImageError` for one that cannot be read, or that has colours without a table.
    """
    image = decode_image(read_bytes(path), None, name=str(path))
    if colours is not None and image.mode in ("P", "RGB", "RGBA"):
        return _numbers_of_colours(image, colours)
    if image.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
        raise ImageError(
            f"{path}: colours ({image.mode}), not class numbers; save it as a grey or palette PNG of class indices, or "
            "say what the colours are: in classes.txt, a line '128 128 128 sky' a class"
        )
    return np.asarray(image)


def read_segments(path: Path, colours: Mapping[int, int]) -> np.ndarray:
    """The numbers in a panoptic map, `[H, W]`, whose colours are segments. `ImageError` for one that cannot be read, or
    that has a colour of no segment."""
    image = decode_image(read_bytes(path), None, name=str(path))
    if image.mode not in ("P", "RGB", "RGBA"):
        raise ImageError(f"{path}: a picture of {image.mode}, where segments are colours")
    numbers = _numbers_of_colours(image, colours)
    if (other := numbers[numbers < LOWEST]).size:
        raise ImageError(f"{path}: colours that are no segment: {listed_numbers(np.unique(other)[::-1].tolist())}")
    return numbers


def _numbers_of_colours(image: Image.Image, colours: Mapping[int, int]) -> np.ndarray:
    pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    codes, places = np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], return_inverse=True)
    numbers = np.array([colours.get(code, colour_number(code)) for code in codes.tolist()], dtype=np.int32)
    return numbers[places.reshape(pixels.shape[:2])]


def colour_number(colour: int) -> int:
    """The number, below all others, that stands for a colour that is no class."""
    return LOWEST - 1 - colour


def draw_map(image: AnnotatedImage) -> np.ndarray:
    """The label map of an image's outlines, int32 `[H, W]`: one more than the object's label, and 0 around them.

    Smaller objects lie over larger ones.
    """
    numbers = np.zeros((image.height, image.width), dtype=np.int32)
    for each in sorted(image.annotations, key=lambda each: -each.area):
        if each.outline is not None:
            mask = to_masks([each.outline], image.width, image.height)[0].numpy()
            numbers[mask > 0] = each.label + 1
    return numbers


def labels_of(image: MappedImage, numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The classes of a map's numbers. `ImageError` for one that is no class."""
    labels = look_up(table, numbers)
    if (labels == UNKNOWN).any():
        values = listed_numbers(np.unique(numbers[labels == UNKNOWN]).tolist())
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


def _said(number: int) -> str:
    return str(number) if number >= LOWEST else f"#{LOWEST - 1 - number:06x}"


def listed_numbers(values: Sequence[int]) -> str:
    """The first ten numbers of label maps, as people call them: those that stand for colours as `#808080`."""
    return first_names([_said(value) for value in values], 10)


class Examined(NamedTuple):
    """The images that can be used, how many pixels each class has in them, `[classes]`, and how many each ignored
    number."""

    data: SegmentationSet
    pixels: np.ndarray
    ignored: Counter[int]


def with_model_classes(data: SegmentationSet, classes: Sequence[str], where: str) -> tuple[SegmentationSet, list[str]]:
    """A set with its classes found by name among a model's, and the names of those that are not, which are ignored.

    `InputError` if none is.
    """
    labels = np.array([classes.index(name) if name in classes else IGNORED for name in data.classes], dtype=np.int16)
    if not (labels >= 0).any():
        raise InputError(f"{where}: its classes are not the model's ({', '.join(classes[:5])})")
    table = np.where(data.table >= 0, labels[np.maximum(data.table, 0)], data.table).astype(np.int16)
    return replace(data, classes=tuple(classes), table=table), [n for n in data.classes if n not in classes]


def examine_label_maps(data: SegmentationSet, faults: Problems) -> Examined:
    """Reads every label map of a split, and the size of every image.

    Images that cannot be used are left out and added to `faults`. Numbers that are no class say that the classes, not
    some images, are wrong: they raise `InputError`, as does a split of which nothing is left or all is ignored.
    """

    def one(image: MappedImage) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            numbers = data.numbers(image)
            check_sizes(image, upright_size_of_file(image.file), numbers, kind=LABEL_KIND)
        except ImageError as error:
            return str(error)
        return _counted(numbers)

    kept, total = [], Counter[int]()
    unknown: dict[int, Path] = {}
    with ThreadPoolExecutor() as threads:
        for image, found in zip(data.images, threads.map(one, data.images), strict=True):
            if isinstance(found, str):
                faults.add(UNUSABLE, found)
                continue
            kept.append(image)
            numbers, counts = found
            total.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            for number in numbers[look_up(data.table, numbers) == UNKNOWN].tolist():
                unknown.setdefault(number, image.map)
    if unknown:
        said = ", ".join(
            f"{_said(n)} ({total[n]:,} pixels, first in {path})" for n, path in sorted(unknown.items())[:5]
        )
        raise InputError(
            f"label maps have numbers that are none of the {len(data.classes)} classes: {said}"
            f"{' and more' if len(unknown) > 5 else ''}; --ignore-index N ignores one, --reduce-zero-label true counts "
            "classes from 1, --label-map FILE says what each number is"
        )
    if not kept:
        raise InputError(f"no image can be used; {'; '.join(faults.lines()) or 'there are none'}")
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
    line = f"no pixel of {first_names(lacking)}; ignored: {numbers or 'nothing'}"
    advice = "--ignore-index and --label-map FILE say what a number is"
    if len(lacking) == len(classes) - 1:
        raise InputError(f"only one of {len(classes)} classes is there: {line}; {advice}")
    return f"{line}; {advice}" if numbers else line
