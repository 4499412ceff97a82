"""Segmentation from a user's point of view: check data, choose a recipe, train or resume, evaluate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from convnext.config import SegmentConfig
from convnext.data.problems import Faults
from convnext.data.sources.label_maps import (
    LabelMaps,
    LabelRules,
    examine,
    find_parts,
    missing_classes,
    read_label_maps,
)
from convnext.data.splits import (
    HoldOut,
    Origin,
    Split,
    divide_images,
    measured_images,
    measured_parts,
    training_parts,
)
from convnext.data.white_level import say_if_files_narrow
from convnext.errors import InputError
from convnext.inference.classifier import load
from convnext.inference.segmenter import Segmenter
from convnext.reports.tables import Table
from convnext.runs.directory import resumed_config
from convnext.runtime import distributed
from convnext.runtime.device import Precision, autocast, pick_device
from convnext.tasks.origin import label_rules_of_model, origin_of_model
from convnext.tasks.recipes import build_config, segment_recipe
from convnext.tasks.segment.data import segmentation_eval_loader
from convnext.tasks.segment.metrics import COLUMNS, figures, measure, merge, rows, say_unmeasured
from convnext.tasks.segment.task import Segmentation
from convnext.weights import are_trained

log = logging.getLogger("convnext")


def rules_of(config: SegmentConfig) -> LabelRules:
    """What numbers in the label maps of a run mean."""
    return LabelRules.read(config.ignore_index, config.reduce_zero_label, config.label_map)


def read(config: SegmentConfig, rules: LabelRules) -> tuple[LabelMaps, LabelMaps, Origin, Faults]:
    """What a run is trained on and what it holds out, what of it is stored, and what was found wrong."""
    only = training_parts(config.data, find_parts(config.data))
    read = read_label_maps(config.data, rules, only=only)
    train, val, origin = divide_images(read.parts, HoldOut(config.val_fraction, config.hold_out_rule))
    if not len(val):
        raise InputError(f"{config.data}: one image alone cannot be divided into training and validation")
    return train, val, origin, read.faults


def build_task(data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool) -> Segmentation:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's.

    Every label map is read first: what is wrong with one is said before training starts.
    """
    if resume:
        config = resumed_config(SegmentConfig, data, out, given)
    else:
        config = SegmentConfig().override({**given, "data": data})
        images = len(read(config, rules_of(config))[0])
        name = recipe or segment_recipe(config.model, images=images, trained=are_trained(config.init))
        config = build_config(name, config.model, SegmentConfig).override({**given, "data": data})
    rules = rules_of(config)
    train, val, origin, faults = read(config, rules)
    examined = examine(train, faults)
    if line := missing_classes(examined):
        log.warning("%s: %s", data, line)
    measured = examine(val, faults).data
    for line in faults.lines():
        log.warning("%s: left out %s", data, line)
    say_if_files_narrow([image.file for image in train.images], config.white)
    return Segmentation(config, examined, measured, origin, rules)


def check(config: SegmentConfig) -> tuple[list[str], list[str]]:
    """What there is in a data set, line by line, and what is wrong with it; every image is opened.

    `InputError` for what `build_task` would refuse.
    """
    train, val, _, faults = read(config, rules_of(config))
    summary = []
    for name, part in (("train", train), ("val", val)):
        examined = examine(part, faults, decode=True)
        data, pixels, _ = examined
        total = max(1, int(pixels.sum()))
        summary.append(f"{name}: {len(data)} of {len(part)} images can be used, {total:,} pixels with a class")
        summary += [
            f"  {100 * count / total:6.2f} %  {label}"
            for label, count in zip(part.classes, pixels.tolist(), strict=True)
        ]
        if name == "train" and (line := missing_classes(examined)):
            summary.append(line)
    return summary, faults.lines()


def evaluate_source(
    source: str,
    data: str,
    split: Split | None = None,
    *,
    batch_size: int,
    workers: int,
    device: str,
    precision: Precision = "fp32",
    image_size: int | None = None,
    crop: float | None = None,
    out: Path | None = None,
    scales: tuple[float, ...] | None = None,
    flip: bool = False,
) -> dict[str, Any]:
    """Figures of a segmenter on a part of `data`, in percent, with the count of images.

    With `scales` and `flip`, of the mean over several views. `image_size` stands for the model's own short side; `out`
    is a folder for `images.csv`, a row an image. Under `torchrun`, each process sees its share of the images, and all
    get the whole's metrics. `InputError` where the data has other classes.
    """
    segmenter = load(source)
    assert isinstance(segmenter, Segmenter)
    changed = segmenter.resize(image_size, crop)
    segmenter.scales, segmenter.flip = scales or segmenter.scales, flip
    # Numbers mean in this data what they meant in the run's.
    only = measured_parts(data, find_parts(data), split)
    parts, faults = read_label_maps(data, label_rules_of_model(source), only=only)
    part, name = measured_images(data, parts, split, origin_of_model(source))
    if list(part.classes) != segmenter.classes:
        raise InputError(f"{data}: its classes are not the model's ({', '.join(segmenter.classes[:5])})")
    part = examine(part, faults).data
    for line in faults.lines():
        log.warning("%s: left out %s", data, line)
    table = Table(out, "images.csv") if out is not None else None
    where = pick_device(device)
    with distributed.joined(where), autocast(where, precision):
        segmenter.model.to(where)
        batches = segmentation_eval_loader(
            part,
            segmenter.transform,
            batch_size=1,
            workers=workers,
            rank=distributed.rank(),
            processes=distributed.count(),
        )
        measured = merge(distributed.gather(measure(segmenter, batches)))
    if table is not None and distributed.rank() == 0:
        table.write(rows(measured, part), COLUMNS)
    say_unmeasured(measured.matrix, part.classes)
    return {**figures(measured.matrix), "split": name, "images": len(part), **changed}
