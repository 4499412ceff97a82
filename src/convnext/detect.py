"""Detection from a user's point of view: check data, choose a recipe, train or resume, evaluate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from convnext import processes
from convnext.config import DetectConfig
from convnext.data.annotated import detection_eval_loader, open_annotated
from convnext.data.coco import read_annotated
from convnext.deploy.detector import Detector
from convnext.deploy.predictor import load
from convnext.device import pick_device
from convnext.errors import ImageError, InputError
from convnext.evaluate.coco_ap import KINDS, coco_eval, detect, figures, percent
from convnext.recipes import build_config, detect_recipe
from convnext.run import resumed_config, val_fraction_of
from convnext.tasks.detect import EVAL_BATCH, Detection
from convnext.weights import are_trained

log = logging.getLogger("convnext")


def build_task(data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool) -> Detection:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's."""
    config = (
        resumed_config(DetectConfig, data, out, given) if resume else DetectConfig().override({**given, "data": data})
    )
    splits = read_annotated(config.data, val_fraction=config.val_fraction)
    for line in splits.faults.lines():
        log.warning("%s: left out %s", data, line)
    if not resume:
        name = recipe or detect_recipe(config.model, images=len(splits.train), trained=are_trained(config.init))
        config = build_config(name, config.model, DetectConfig).override({**given, "data": data})
    drawn = any(a.outline is not None for image in splits.train.images for a in image.annotations)
    if config.masks and not drawn:
        raise InputError(f"{data}: no annotation has an outline; train on boxes alone with --masks false")
    return Detection(config, splits.train, splits.val)


def check(data: str, val_fraction: float) -> tuple[list[str], list[str]]:
    """What there is in a data set, line by line, and what is wrong with it; every image is opened.

    `InputError` for what `build_task` would refuse.
    """
    splits = read_annotated(data, val_fraction=val_fraction)
    summary = []
    for name, part in (("train", splits.train), ("val", splits.val)):
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
            except ImageError as error:
                splits.faults.add("images that cannot be used", str(error))
    summary.append(f"{len(splits.train.classes)} classes: {', '.join(splits.train.classes[:20])}")
    return summary, splits.faults.lines()


def evaluate_source(
    source: str, data: str, split: str, *, batch_size: int, workers: int, device: str
) -> dict[str, Any]:
    """COCO's figures of a detector on a split of `data`, in percent, with the count of images.

    Under `torchrun`, each process sees its share of the images, and all get the whole's metrics. `InputError` where the
    data has other classes.
    """
    if split == "all":
        raise InputError("a detector is measured on one split: --split val or train")
    detector = load(source)
    assert isinstance(detector, Detector)
    fraction = val_fraction_of(source, DetectConfig.val_fraction)
    splits = read_annotated(data, val_fraction=fraction)
    for line in splits.faults.lines():
        log.warning("%s: left out %s", data, line)
    part = splits.val if split == "val" else splits.train
    if list(part.classes) != detector.classes:
        raise InputError(f"{data}: its classes are not the model's ({', '.join(detector.classes[:5])})")
    where = pick_device(device)
    with processes.joined(where):
        detector.model.to(where)
        batches = detection_eval_loader(
            part,
            detector.transform,
            batch_size=min(batch_size, EVAL_BATCH),  # images are large, and masks more so
            workers=workers,
            rank=processes.rank(),
            processes=processes.count(),
        )
        results = [row for own in processes.gather(detect(detector, batches, part)) for row in own]
    metrics: dict[str, Any] = {}
    for name, kind in KINDS.items():
        if name == "box" or detector.model.mask_heads:
            metrics |= percent(figures(coco_eval(part, results, kind)), name)
    return {**metrics, "split": split, "images": len(part)}
