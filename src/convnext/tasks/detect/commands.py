"""Detection from a user's point of view: check data, choose a recipe, train or resume, evaluate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from convnext.config import DetectConfig
from convnext.data.images.decode import orientation, read_bytes
from convnext.data.problems import Faults
from convnext.data.sources.coco import Annotated, find_parts, read_annotated
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
from convnext.errors import ImageError, InputError
from convnext.inference.classifier import load
from convnext.inference.detector import Detector
from convnext.reports.tables import Table
from convnext.runs.directory import resumed_config
from convnext.runtime import distributed
from convnext.runtime.device import Precision, autocast, pick_device
from convnext.tasks.detect.data import detection_eval_loader, open_annotated
from convnext.tasks.detect.matching import IMAGE_COLUMNS, OBJECT_COLUMNS, matched
from convnext.tasks.detect.metrics import KINDS, coco_eval, detect, merge, metrics_of
from convnext.tasks.detect.task import EVAL_BATCH, Detection, training_images
from convnext.tasks.origin import origin_of_model
from convnext.tasks.recipes import build_config, detect_recipe
from convnext.weights import are_trained

log = logging.getLogger("convnext")


def read(config: DetectConfig) -> tuple[Annotated, Annotated, Origin, Faults]:
    """What a run is trained on and what it holds out, what of it is stored, and what was found wrong."""
    only = training_parts(config.data, find_parts(Path(config.data)))
    read = read_annotated(config.data, only=only)
    train, val, origin = divide_images(read.parts, HoldOut(config.val_fraction, config.hold_out_rule))
    if not len(val):
        raise InputError(f"{config.data}: one image alone cannot be divided into training and validation")
    return train, val, origin, read.faults


def say(data: str, faults: Faults) -> None:
    """A line in the log for each kind of fault."""
    for line in faults.notes():
        log.warning("%s: %s", data, line)
    for line in faults.lines():
        log.warning("%s: left out %s", data, line)


def build_task(data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool) -> Detection:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's."""
    config = (
        resumed_config(DetectConfig, data, out, given) if resume else DetectConfig().override({**given, "data": data})
    )
    train, val, origin, faults = read(config)
    say(data, faults)
    if not resume:
        name = recipe or detect_recipe(config.model, images=len(train), trained=are_trained(config.init))
        config = build_config(name, config.model, DetectConfig).override({**given, "data": data})
    say_if_files_narrow([image.file for image in train.images], config.white)
    return Detection(config, train, val, origin)


def check(config: DetectConfig) -> tuple[list[str], list[str]]:
    """What there is in a data set and what was assumed of it, line by line, and what is left out.

    Every image is opened. `InputError` for what `build_task` would refuse.
    """
    train, val, _, faults = read(config)
    _, unused = training_images(train, config)
    summary = []
    for name, part in (("train", train), ("val", val)):
        objects = [a for image in part.images for a in image.annotations]
        empty = sum(not image.annotations for image in part.images)
        crowds, drawn = sum(a.crowd for a in objects), sum(a.outline is not None for a in objects)
        summary.append(
            f"{name}: {len(part)} images ({empty} without objects), {len(objects)} objects ({crowds} crowds, "
            f"{drawn} with outlines)"
        )
        for image in part.images:
            try:
                open_annotated(image)
                if orientation(read_bytes(image.file)) in (2, 3, 4):
                    faults.note("images that EXIF turns or mirrors (were boxes drawn on them so?)", str(image.file))
            except ImageError as error:
                faults.add("images that cannot be used", str(error))
    there = {a.label for image in train.images for a in image.annotations}
    lacking = [name for label, name in enumerate(train.classes) if label not in there]
    summary.append(f"{len(train.classes)} classes: {', '.join(train.classes[:20])}")
    if lacking:
        more = f" and {len(lacking) - 20} more" if len(lacking) > 20 else ""
        summary.append(f"{len(lacking)} classes without an object in train: {', '.join(lacking[:20])}{more}")
    return [*summary, *unused, *faults.notes()], faults.lines()


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
) -> dict[str, Any]:
    """COCO's figures of a detector on a part of `data`, in percent, with the count of images.

    `image_size` stands for the model's own short side; `out` is a folder for `images.csv`, a row an image, and
    `objects.csv`. Under `torchrun`, each process sees its share of the images, and all get the whole's metrics.
    `InputError` where the data has other classes.
    """
    detector = load(source)
    assert isinstance(detector, Detector)
    changed = detector.resize(image_size, crop)
    only = measured_parts(data, find_parts(Path(data)), split)
    read = read_annotated(data, only=only, classes=detector.classes)
    say(data, read.faults)
    part, name = measured_images(data, read.parts, split, origin_of_model(source))
    tables = [Table(out, name) for name in ("images.csv", "objects.csv")] if out is not None else []
    where = pick_device(device)
    with distributed.joined(where), autocast(where, precision):
        detector.model.to(where)
        batches = detection_eval_loader(
            part,
            detector.transform,
            batch_size=min(batch_size, EVAL_BATCH),  # images are large, and masks more so
            workers=workers,
            rank=distributed.rank(),
            processes=distributed.count(),
        )
        results = merge(distributed.gather(detect(detector, batches, part)))
    kinds = [kind for kind in KINDS if kind == "box" or detector.model.mask_heads]
    metrics: dict[str, Any] = metrics_of(part, {kind: coco_eval(part, results, KINDS[kind]) for kind in kinds})
    if not metrics.get("objects", 1):
        log.warning("%s has no objects: nothing is measured", name)
    if tables and distributed.rank() == 0:
        images, objects = matched(part, results)
        for table, rows, columns in zip(tables, (images, objects), (IMAGE_COLUMNS, OBJECT_COLUMNS), strict=True):
            table.write(rows, columns)
    return {**metrics, "split": name, "images": len(part), **changed}
