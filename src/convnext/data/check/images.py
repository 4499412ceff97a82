"""Counts usable images and classes of a data set, by opening every image."""

from __future__ import annotations

from collections import Counter

from convnext.data.image_set import ImageSet
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import eval_loader

LISTED_CLASSES = 40
"""Classes up to which each is listed."""
CHECK_BATCH = 64
READ_SIZE = 32  # pixels: an image is read in whole all the same


def check_images(name: str, samples: ImageSet, *, workers: int) -> tuple[list[str], list[str]]:
    """Lines that say how many images of a part called `name` can be used, and of which classes; and a line for each
    that cannot."""
    loader = eval_loader(samples, Preprocessing.standard(READ_SIZE), batch_size=CHECK_BATCH, workers=workers)
    unreadable = [place for batch in loader for place in batch.unreadable]
    used = len(samples) - len(unreadable)
    summary = [f"{name}: {used:,} of {len(samples):,} images can be used"]
    if samples.classes:
        summary += class_lines(samples, {index for index, _ in unreadable})
    return summary, [reason for _, reason in unreadable]


def class_lines(samples: ImageSet, without: set[int]) -> list[str]:
    """Number of images of each class, those at the places `without` left out; of many classes, the ends alone."""
    counts: Counter[int] = Counter()
    for index, target in enumerate(samples.targets):
        if index not in without:
            counts.update(target if isinstance(target, tuple) else (target,))
    rows = [f"  {counts[label]:7,}  {name}" for label, name in enumerate(samples.classes)]
    if len(rows) <= LISTED_CLASSES:
        return rows
    order = sorted(range(len(rows)), key=lambda label: counts[label])
    few = [rows[label] for label in order[:5]]
    return [f"  {len(rows):,} classes; the smallest and the largest:", *few, *(rows[label] for label in order[-5:])]
