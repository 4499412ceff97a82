"""Reading and checking the data that a segmenter is trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from convnext.data.parts import divide_images, parts_to_train_on
from convnext.data.problems import Problems, log_problems
from convnext.data.sources.label_maps import (
    Examined,
    LabelRules,
    SegmentationSet,
    examine_label_maps,
    look_up,
    missing_classes,
)
from convnext.data.sources.segmentation import MAPS, PACKED_MAPS, PANOPTIC, find_label_parts, read_label_maps
from convnext.data.splits import Origin
from convnext.errors import ImageError
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.metrics import say_unmeasured
from convnext.tasks.splitting import splitting_of

log = logging.getLogger("convnext")


def rules_of(config: SegmentConfig) -> LabelRules:
    """Meaning of the numbers in a run's label maps."""
    return LabelRules.read(config.ignore_index, config.reduce_zero_label, config.label_map)


def say_unused_rules(data: str, form: str, rules: LabelRules) -> None:
    """Log the rules that data of a form, of segments or of outlines, have no numbers for; an `ignore_index` of 0 has a
    meaning for outlines."""
    if form in (MAPS, PACKED_MAPS):
        return
    kept = (LabelRules().ignore_index, *(() if form == PANOPTIC else (0,)))
    options = {"--label-map": rules.label_map is not None, "--ignore-index": rules.ignore_index not in kept}
    if unused := [name for name, given in options.items() if given]:
        log.warning(
            "%s: not used: %s, which is of numbers in label maps; these are %s", data, " and ".join(unused), form
        )


class SegmentationData(NamedTuple):
    """Training and validation images, the record of them that is stored with the weights, and what was found wrong."""

    train: SegmentationSet
    val: SegmentationSet
    origin: Origin
    faults: Problems


def read_segmentation_data(config: SegmentConfig, rules: LabelRules) -> SegmentationData:
    """Training and validation data of a run. `InputError` for data of another form."""
    how = splitting_of(config)
    form, available = find_label_parts(config.data, config.format)
    say_unused_rules(config.data, form, rules)
    only = parts_to_train_on(config.data, available, how.division)
    read = read_label_maps(config.data, rules, only=only, form=config.format)
    train, val, origin = divide_images(config.data, read.parts, *how, classes=classes_shown)
    return SegmentationData(train, val, origin, read.faults)


def classes_shown(images: SegmentationSet) -> list[Mapping[str, int]]:
    """The classes that have a pixel in each image; none of one whose label map cannot be read."""

    def one(place: int) -> Mapping[str, int]:
        try:
            labels = look_up(images.table, np.unique(images.numbers(images.images[place])))
        except ImageError:
            return {}
        return {images.classes[label]: 1 for label in labels.tolist() if label >= 0}

    with ThreadPoolExecutor() as threads:
        return list(threads.map(one, range(len(images))))


def examined(config: SegmentConfig, data: SegmentationData) -> tuple[Examined, SegmentationSet]:
    """The training images with the counts of their pixels, and the validation images, whose label maps can be used.

    Every label map is read: what is wrong with one is said before training starts.
    """
    train = examine_label_maps(data.train, data.faults)
    if line := missing_classes(train):
        log.warning("%s: %s", config.data, line)
    val = examine_label_maps(data.val, data.faults)
    log_problems(config.data, data.faults)
    say_unmeasured(val.pixels.tolist(), data.val.classes)
    return train, val.data
