"""Images with objects, for `convnext check`: what there is, and boxes and outlines that look wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from convnext.data.check.part import CheckedData, CheckedPart, file_part
from convnext.data.check.problem import Problem
from convnext.data.parts import divided_parts
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.data.sources.coco_fields import box_of_outline
from convnext.data.sources.detection import read_annotated
from convnext.printing import counted, first_names, quoted
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.read import objects_by_class, training_images
from convnext.tasks.splitting import splitting_of

SAME_BOX = 0.9
"""Overlap (intersection over union) from which two boxes are taken for one object drawn twice."""
LEAST_OVERLAP = 0.5
"""Overlap of a box and its outline's, below which one of them is wrong."""

SMALLEST_BOX = 2.0
"""Pixels of a box's side below which there is nothing to be seen in it."""


def checked_objects(config: DetectConfig) -> CheckedData:
    """All parts of a data set. `InputError` for what training would refuse, but for boxes without any outline: they can
    be looked at all the same, and count as left out."""
    read = read_annotated(config.data, form=config.format)
    sets = divided_parts(config.data, read.parts, *splitting_of(config), classes=objects_by_class)
    masks = config.masks and any(a.outline is not None for image in sets["train"].images for a in image.annotations)
    _, unused = training_images(sets["train"], replace(config, masks=masks))
    if config.masks and not masks:
        for image in sets["train"].images:
            read.faults.add("images without any outline, which training takes with --masks false", image.key)
    parts = [_part(name, data) for name, data in sets.items()]
    problems = [each for name, data in sets.items() for each in wrong_objects(name, data)]

    def found(unreadable: list[set[int]]) -> list[str]:
        train = sets["train"]
        there = {a.label for image in train.images for a in image.annotations}
        lacking = [name for label, name in enumerate(train.classes) if label not in there]
        summary = [_line(name, data) for name, data in sets.items()]
        summary.append(f"{counted(len(train.classes), 'class', 'classes')}: {', '.join(train.classes[:20])}")
        if lacking:
            summary.append(
                f"{counted(len(lacking), 'class', 'classes')} without an object in train: {first_names(lacking, 20)}"
            )
        return [*summary, *unused, *read.faults.notes()]

    return CheckedData(parts, read.faults, found, problems)


def _part(name: str, data: DetectionSet) -> CheckedPart:
    return file_part(
        name,
        [image.file for image in data.images],
        labels=[tuple(a.label for a in image.annotations) for image in data.images],
        classes=data.classes,
        sizes=[(image.width, image.height) for image in data.images],
        objects=sum(len(image.annotations) for image in data.images),
    )


def _line(name: str, data: DetectionSet) -> str:
    objects = [a for image in data.images for a in image.annotations]
    empty = sum(not image.annotations for image in data.images)
    crowds, drawn = sum(a.crowd for a in objects), sum(a.outline is not None for a in objects)
    return (
        f"{name}: {counted(len(data), 'image')} ({empty:,} without objects), {counted(len(objects), 'object')} "
        f"({counted(crowds, 'crowd')}, {drawn:,} with outlines)"
    )


def wrong_objects(part: str, data: DetectionSet) -> Iterator[Problem]:
    """A problem for each image with boxes or outlines that look wrong; its path is the image's file."""
    for image in data.images:
        words = [*_drawn_twice(image, data.classes), *_too_small(image), *_beside_outline(image, data.classes)]
        if words:
            yield Problem("annotation", part, (str(image.file),), "; ".join(words), 0.8)


def _drawn_twice(image: AnnotatedImage, classes: Sequence[str]) -> Iterator[str]:
    single = [a for a in image.annotations if not a.crowd]
    if len(single) < 2:
        return
    overlap = overlaps(np.array([a.box for a in single]))
    for first, second in zip(*np.nonzero(np.triu(overlap >= SAME_BOX, 1)), strict=True):
        names = [quoted(classes[single[at].label]) for at in (first, second)]
        if names[0] == names[1]:
            yield f"{names[0]} twice at {_place(single[first])}"
        else:
            yield f"{names[0]} and {names[1]} at one place, {_place(single[first])}"


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of each two of n boxes `[n, 4]`: `[n, n]`."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low, high = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    return both / np.maximum(area[:, None] + area[None] - both, 1e-9)


def _too_small(image: AnnotatedImage) -> Iterator[str]:
    small = [a for a in image.annotations if min(a.box[2] - a.box[0], a.box[3] - a.box[1]) < SMALLEST_BOX]
    if small:
        yield f"{counted(len(small), 'box', 'boxes')} under {SMALLEST_BOX:g} pixels, one at {_place(small[0])}"


def _beside_outline(image: AnnotatedImage, classes: Sequence[str]) -> Iterator[str]:
    for each in image.annotations:
        around = None if each.outline is None else box_of_outline(each.outline, image.width, image.height)
        if around is None or each.crowd:
            continue
        x, y, width, height = around
        if overlaps(np.array([each.box, (x, y, x + width, y + height)]))[0, 1] < LEAST_OVERLAP:
            yield f"the box of {quoted(classes[each.label])} at {_place(each)} is not around its outline"


def _place(annotation: Annotation) -> str:
    return ", ".join(f"{edge:.0f}" for edge in annotation.box)
