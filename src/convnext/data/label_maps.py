"""Images with a label map each: a picture of the same size whose numbers are classes.

    FOLDER/images/train/a/1.jpg   FOLDER/annotations/train/a/1.png   FOLDER/classes.txt, a name a line

What is held out is called val, valid, validation or test; "training" is read as train, which makes it ADE20K's layout,
whose classes lie in objectInfo150.txt. Where there are no splits, a fraction of the images is held out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext.data.decode import decode_image, find_images, read_bytes, upright_size
from convnext.data.entries import HELD_OUT, hash_fraction, read_class_names
from convnext.data.faults import Faults
from convnext.errors import ImageError, InputError

IGNORED = -1
"""The class of pixels that neither teach nor count."""
UNKNOWN = -2

TRAIN = ("train", "training")


class LabelledImage(NamedTuple):
    """An image's file and its label map's."""

    file: Path
    map: Path


@dataclass(frozen=True)
class LabelMaps:
    """Labelled images of one split. `table` `[65536]` int16 gives the class of a number in a map: a position among
    `classes`, `IGNORED`, or `UNKNOWN`."""

    classes: tuple[str, ...]
    table: np.ndarray
    images: tuple[LabelledImage, ...]

    def __len__(self) -> int:
        return len(self.images)


class LabelMapSplits(NamedTuple):
    """Training and validation images, and what was found wrong in listing them."""

    train: LabelMaps
    val: LabelMaps
    faults: Faults


def read_label_maps(
    data: str | Path,
    *,
    ignore_index: int = 255,
    reduce_zero_label: bool = False,
    label_map: str | Path | None = None,
    val_fraction: float = 0.2,
) -> LabelMapSplits:
    """The two parts of a folder; images without a map are left out.

    Args:
        data: the folder.
        ignore_index: the number of pixels that are ignored.
        reduce_zero_label: 0 is ignored too, and 1 is the first class (ADE20K).
        label_map: JSON that says which class a number is, by its name or position; null for ignored (COCO-Stuff).
        val_fraction: share held out where nothing is.

    `InputError` for a folder in another layout, or without classes.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"{data}: no such folder")
    for name in ("images", "annotations"):
        if not (folder / name).is_dir():
            raise InputError(f"{data}: no folder '{name}' in it; images and label maps lie in images/ and annotations/")
    classes = read_classes(folder)
    table = class_table(classes, ignore_index, reduce_zero_label, label_map)
    faults = Faults()
    train_name = next((name for name in TRAIN if (folder / "images" / name).is_dir()), None)
    whole = LabelMaps(classes, table, ())
    if train_name is None:
        images = _pairs(folder, "", faults)
        if len(images) < 2:
            raise InputError(f"{data}: no two images with label maps; {_reason(faults)}")
        ordered = sorted(images, key=lambda image: hash_fraction(image.file.name))
        held = sum(hash_fraction(image.file.name) < val_fraction for image in images)
        count = min(max(1, held), len(images) - 1)
        parts = [sorted(ordered[count:]), sorted(ordered[:count])]
    else:
        val_name = next((name for name in HELD_OUT if (folder / "images" / name).is_dir()), None)
        if val_name is None:
            raise InputError(f"{folder / 'images'}: {train_name}/ but nothing held out beside it, such as val/")
        parts = [_pairs(folder, name, faults) for name in (train_name, val_name)]
        for name, part in zip((train_name, val_name), parts, strict=True):
            if not part:
                raise InputError(f"{folder / 'images' / name}: no image with a label map; {_reason(faults)}")
    train, val = (replace(whole, images=tuple(part)) for part in parts)
    return LabelMapSplits(train, val, faults)


def _reason(faults: Faults) -> str:
    return "; ".join(faults.lines()) or "there are none"


def _pairs(folder: Path, split: str, faults: Faults) -> list[LabelledImage]:
    """Images with their maps, which have the same path but for the suffix."""
    images, maps = folder / "images" / split, folder / "annotations" / split
    there = {path.relative_to(maps).with_suffix(""): path for path in find_images(maps)}
    pairs = []
    for path in find_images(images):
        found = there.pop(path.relative_to(images).with_suffix(""), None)
        if found is None:
            faults.add("images without a label map", str(path))
        else:
            pairs.append(LabelledImage(path, found))
    for path in there.values():
        faults.add("label maps without an image", str(path))
    return pairs


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


def class_table(
    classes: Sequence[str], ignore_index: int, reduce_zero_label: bool, label_map: str | Path | None
) -> np.ndarray:
    """The class of each number, as `LabelMaps` has it. `InputError` for a `label_map` that says something else."""
    if not 0 <= ignore_index < 2**16:
        raise InputError(f"ignore_index must lie between 0 and 65535, not {ignore_index}")
    table = np.full(2**16, UNKNOWN, dtype=np.int16)
    first = int(reduce_zero_label)
    if label_map is None:
        table[first : first + len(classes)] = np.arange(len(classes))
    else:
        for number, label in _read_label_map(Path(label_map), classes).items():
            table[number] = label
    if reduce_zero_label:
        table[0] = IGNORED
    table[ignore_index] = IGNORED
    return table


def _read_label_map(path: Path, classes: Sequence[str]) -> dict[int, int]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of numbers and classes")
    numbers = {}
    for number, label in content.items():
        if not (number.isascii() and number.isdigit() and int(number) < 2**16):
            raise InputError(f"{path}: '{number}' is no number of a label map")
        if label is None:
            numbers[int(number)] = IGNORED
        elif label in classes:
            numbers[int(number)] = classes.index(label)
        elif type(label) is int and 0 <= label < len(classes):
            numbers[int(number)] = label
        else:
            raise InputError(f"{path}: {number} is said to be {label!r}, which is none of the {len(classes)} classes")
    return numbers


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


def open_labelled(image: LabelledImage, table: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """An image and its classes, int16 `[H, W]`.

    `ImageError` if one of the two cannot be read, they differ in size, or the map has a number that is no class.
    """
    picture = decode_image(read_bytes(image.file), "RGB", name=str(image.file))
    labels = labels_of(image, read_map(image.map), table)
    _same_size(image, picture.size, labels)
    return picture, labels


def labels_of(image: LabelledImage, numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The classes of a map's numbers. `ImageError` for one that is no class."""
    labels = table[np.clip(numbers, 0, 2**16 - 1)]
    if (labels == UNKNOWN).any():
        values = _listed(np.unique(numbers[labels == UNKNOWN]).tolist())
        raise ImageError(f"{image.map}: numbers that are no class: {values}")
    return labels


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")


def _same_size(image: LabelledImage, size: tuple[int, int], labels: np.ndarray) -> None:
    if size != (labels.shape[1], labels.shape[0]):
        raise ImageError(
            f"{image.file}: {size[0]}×{size[1]} pixels, and its label map {labels.shape[1]}×{labels.shape[0]}"
        )


class Examined(NamedTuple):
    """What `examine` found: the images that can be used, and how many pixels each class has in them, `[classes]`."""

    data: LabelMaps
    pixels: np.ndarray


def examine(data: LabelMaps, faults: Faults, *, decode: bool = False) -> Examined:
    """Reads every label map of a split, and the size of every image (with `decode`, its pixels).

    Images that cannot be used are left out and added to `faults`. Numbers that are no class say that the classes, not
    some images, are wrong: they raise `InputError`, as does a split of which nothing is left or all is ignored.
    """

    def one(image: LabelledImage) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            numbers = read_map(image.map)
            content = read_bytes(image.file)
            if decode:
                size = decode_image(content, "RGB", name=str(image.file)).size
            else:
                size = upright_size(content, name=str(image.file))
            _same_size(image, size, numbers)
        except ImageError as error:
            return str(error)
        counts = np.bincount(np.clip(numbers, 0, 2**16 - 1).ravel())
        there = np.flatnonzero(counts)
        return there, counts[there]

    kept, total = [], np.zeros(2**16, dtype=np.int64)
    unknown: dict[int, Path] = {}
    with ThreadPoolExecutor() as threads:
        for image, found in zip(data.images, threads.map(one, data.images), strict=True):
            if isinstance(found, str):
                faults.add("images that cannot be used", found)
                continue
            kept.append(image)
            numbers, counts = found
            total[numbers] += counts
            for number in numbers[data.table[numbers] == UNKNOWN].tolist():
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
    pixels = np.zeros(len(data.classes), dtype=np.int64)
    known = data.table >= 0
    np.add.at(pixels, data.table[known], total[known])
    if not pixels.any():
        raise InputError(
            f"{data.images[0].map.parent}: every pixel is ignored; --ignore-index, --reduce-zero-label and --label-map "
            "say what a number is"
        )
    return Examined(replace(data, images=tuple(kept)), pixels)
