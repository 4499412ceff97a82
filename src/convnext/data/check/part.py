"""The parts of a data set as a check sees them, whatever the task: images, and what their labels say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.check.problem import Problem
from convnext.data.image_set import ImageSet
from convnext.data.images.decode import read_bytes
from convnext.data.problems import Problems
from convnext.data.sources.maps import MappedSet

LISTED_CLASSES = 40
"""Classes up to which each is listed."""


@dataclass(frozen=True)
class CheckedPart:
    """Images of one part.

    Args:
        name: "train", "val" or "test".
        sources: files of the images, or names of images that are no files.
        content: gives the file's content of the image at a place. `ImageError` if it cannot be read.
        labels: classes in each image: its own, or one for each object; none where only pixels have classes.
        classes: names of the classes.
        exclusive: whether an image has one class, so that copies in two classes contradict each other.
        sizes: width and height that each image's annotations are for, where they say that.
        objects: number of objects, where there are any.
        pixels: number of pixels of each class, where pixels have classes.
        counted: places of images that `CheckedData.faults` has counted as unusable.
        ahead: is told the order in which images will be read (`ImageSet.read_ahead`).
    """

    name: str
    sources: Sequence[str]
    content: Callable[[int], bytes]
    labels: Sequence[tuple[int, ...]] = ()
    classes: tuple[str, ...] = ()
    exclusive: bool = False
    sizes: Sequence[tuple[int, int]] | None = None
    objects: int | None = None
    pixels: Mapping[str, int] | None = None
    counted: frozenset[int] = frozenset()
    ahead: Callable[[Sequence[int]], AbstractContextManager[Any]] = field(default=lambda order: nullcontext())

    def __len__(self) -> int:
        return len(self.sources)

    def usable(self, unreadable: set[int]) -> int:
        """Number of images that can be used."""
        return len(self) - len(self.counted | unreadable)

    def images_of_classes(self, without: set[int]) -> Counter[int]:
        """Number of images that show each class, those at the places `without` left out."""
        counts: Counter[int] = Counter()
        for index, labels in enumerate(self.labels):
            if index not in without:
                counts.update(set(labels))
        return counts


class CheckedData(NamedTuple):
    """All parts of a data set, and what reading it has found.

    Fields:
        parts: as the data have them; undivided ones as training would divide them.
        faults: found in annotations.
        found: lines for people on the contents, given the places of unreadable images in each part.
        problems: found in annotations, beside `faults`.
    """

    parts: list[CheckedPart]
    faults: Problems
    found: Callable[[list[set[int]]], list[str]]
    problems: list[Problem]


def part_of_images(samples: ImageSet) -> CheckedPart:
    """A part of labelled or unlabelled images."""

    def content(index: int) -> bytes:
        if samples.images is None:
            return samples.content(index)
        file = BytesIO()
        samples.open(index, "L").save(file, "PNG")
        return file.getvalue()

    labels = [target if isinstance(target, tuple) else (target,) for target in samples.targets]
    return CheckedPart(
        samples.part,
        samples.sources,
        content,
        labels if samples.classes else (),
        samples.classes,
        exclusive=bool(samples.classes) and not samples.multi_label,
        ahead=samples.read_ahead,
    )


def file_part(name: str, files: Sequence[Path], **labels: Any) -> CheckedPart:
    """A part whose images are files; `labels` are other fields of it."""
    return CheckedPart(name, [str(file) for file in files], lambda index: read_bytes(files[index]), **labels)


def mapped_part(name: str, data: MappedSet, usable: MappedSet, **labels: Any) -> CheckedPart:
    """A part whose images have maps, of which those in `usable` can be used."""
    kept = {image.file for image in usable.images}
    counted = frozenset(place for place, image in enumerate(data.images) if image.file not in kept)
    return file_part(name, [image.file for image in data.images], counted=counted, **labels)


def lines_of_images(part: CheckedPart, unreadable: set[int]) -> list[str]:
    """Lines that say how many images of a part can be used, and of which classes."""
    summary = [f"{part.name}: {part.usable(unreadable):,} of {len(part):,} images can be used"]
    return summary + (class_lines(part, unreadable) if part.classes else [])


def class_lines(part: CheckedPart, without: set[int]) -> list[str]:
    """Number of images of each class, those at the places `without` left out; of many classes, the ends alone."""
    counts = part.images_of_classes(without)
    rows = [f"  {counts[label]:7,}  {name}" for label, name in enumerate(part.classes)]
    if len(rows) <= LISTED_CLASSES:
        return rows
    order = sorted(range(len(rows)), key=lambda label: counts[label])
    few = [rows[label] for label in order[:5]]
    return [f"  {len(rows):,} classes; the smallest and the largest:", *few, *(rows[label] for label in order[-5:])]
