"""Reading and checking the data that a detector is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from convnext.data.parts import divide_images, parts_to_train_on
from convnext.data.problems import Problems
from convnext.data.sources.annotated import AnnotatedImage, DetectionSet
from convnext.data.sources.detection import find_detection, read_annotated
from convnext.data.splits import Origin
from convnext.errors import InputError
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.splitting import splitting_of


class DetectionData(NamedTuple):
    """Training and validation images, the record of them that is stored with the weights, and what was found wrong."""

    train: DetectionSet
    val: DetectionSet
    origin: Origin
    faults: Problems


def read_detection_data(config: DetectConfig) -> DetectionData:
    """Training and validation data of a run. `InputError` for data of another form."""
    how = splitting_of(config)
    available = find_detection(config.data, config.format).parts
    only = parts_to_train_on(config.data, available, how.division)
    read = read_annotated(config.data, only=only, form=config.format)
    train, val, origin = divide_images(config.data, read.parts, *how, classes=objects_by_class)
    return DetectionData(train, val, origin, read.faults)


def objects_by_class(images: DetectionSet) -> list[Mapping[str, int]]:
    """Objects of each class in every image."""
    return [Counter(images.classes[each.label] for each in image.annotations) for image in images.images]


def why_unused(image: AnnotatedImage, config: DetectConfig) -> str | None:
    """Why an image is not trained on; None where it is.

    With `config.masks` each of its objects has an outline: one without would be taught as background.
    """
    objects = [a for a in image.annotations if not a.crowd]
    if not image.annotations and image.left_out:
        return "whose annotations were all left out"  # it shows objects, which would be taught as background
    if not image.annotations:
        return None if config.negatives else "without objects"
    if not objects:
        return "with nothing but crowds"
    return "with an object without outline" if config.masks and any(a.outline is None for a in objects) else None


def training_images(train: DetectionSet, config: DetectConfig) -> tuple[DetectionSet, list[str]]:
    """The images that are trained on, and how many are not, a line for each reason.

    `InputError` where no image with objects is left.
    """
    reasons = [why_unused(image, config) for image in train.images]
    counts = Counter(reason for reason in reasons if reason)
    unused = [f"images {reason}, not trained on: {count}" for reason, count in counts.items()]
    used = replace(train, images=tuple(i for i, reason in zip(train.images, reasons, strict=True) if not reason))
    if not any(image.annotations for image in used.images):
        advice = "; --masks false takes boxes alone" if counts["with an object without outline"] else ""
        raise InputError(f"{config.data}: no image with objects to train on: {'; '.join(unused) or 'none'}{advice}")
    return used, unused
