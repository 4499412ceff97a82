"""ImageNet's other test sets: ImageNetV2, whose classes are numbered (arXiv 1902.10811), and reassessed labels (ReaL,
arXiv 2006.07159). ImageNet-A, -R and -Sketch are folders of WordNet ids, as ImageNet's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from convnext.data.image_set import ImageSet
from convnext.data.sources.hub import fetched
from convnext.errors import InputError
from convnext.tasks.classify.metrics import Predictions
from convnext.weights.class_names import are_wordnet_ids, imagenet_classes

VALIDATION_IMAGES = 50_000
REAL_LABELS = "real.json"
"""File of reassessed labels, beside the images or above them: a list of class numbers for each validation image."""
_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")


def class_numbers() -> dict[str, int]:
    """Number of each of ImageNet-1K's classes, by WordNet id."""
    return {name: number for number, name in enumerate(imagenet_classes())}


def numbered_classes(classes: Sequence[str], data: str | Path) -> list[str] | None:
    """ImageNet classes by their numbers, "0" to "999", where the folders in `data` are called so, as ImageNetV2's are.

    None where they are not, or the classes are not ImageNet-1K's.
    """
    if not are_wordnet_ids(classes) or not Path(fetched(data)).is_dir():
        return None
    folders = [path.name for path in Path(fetched(data)).iterdir() if path.is_dir()]
    if not folders or not all(name.isdecimal() and str(int(name)) == name for name in folders):
        return None
    numbers = class_numbers()
    return [str(numbers[name]) for name in classes] if all(name in numbers for name in classes) else None


def find_real_labels(data: str | Path) -> list[set[int]] | None:
    """Reassessed labels of each validation image, where `data` is a folder with a file of them.

    `InputError` for a file of another form.
    """
    path = next((p for p in (Path(data) / REAL_LABELS, Path(data).parent / REAL_LABELS) if p.is_file()), None)
    if path is None:
        return None
    try:
        labels = [set(map(int, each)) for each in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: expected a list of class numbers for each validation image") from error
    if len(labels) != VALIDATION_IMAGES:
        raise InputError(f"{path} has labels of {len(labels):,} images, not of ImageNet's {VALIDATION_IMAGES:,}")
    return labels


def real_top1(labels: Sequence[set[int]], answers: Predictions, part: ImageSet, classes: Sequence[str]) -> float | None:
    """Share of the images with reassessed labels whose answer is one of them, in percent; None without such images."""
    numbers = class_numbers()
    right = []
    for index, guess in zip(answers.indices.tolist(), answers.guesses.tolist(), strict=True):
        named = _NAME.search(part.sources[index])
        own = labels[int(named[1]) - 1] if named and 0 < int(named[1]) <= len(labels) else set()
        if own:
            right.append(numbers.get(classes[guess]) in own)
    return round(100 * sum(right) / len(right), 4) if right else None
