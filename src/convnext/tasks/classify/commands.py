"""Classification from a user's point of view: choose a recipe, train or resume, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnext.config import ClassifyConfig
from convnext.data.image_set import read_split, read_train_val
from convnext.data.loading import eval_loader
from convnext.data.splits import HoldOut, Split
from convnext.data.white_level import say_if_narrow
from convnext.inference.classifier import load
from convnext.reports.tables import Table
from convnext.runs.directory import resumed_config
from convnext.runtime import distributed
from convnext.runtime.device import Precision, autocast, pick_device
from convnext.tasks.classify.metrics import accuracy, merge, predict, rows
from convnext.tasks.classify.task import Classification
from convnext.tasks.origin import origin_of_model
from convnext.tasks.recipes import build_config, classify_recipe
from convnext.weights import are_trained


def build_task(data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool) -> Classification:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's."""
    config = (
        resumed_config(ClassifyConfig, data, out, given)
        if resume
        else ClassifyConfig().override({**given, "data": data})
    )
    hold_out = HoldOut(config.val_fraction, config.hold_out_rule)
    read = read_train_val(config.data, hold_out=hold_out, multi_label=config.multi_label)
    if not resume:
        name = recipe or classify_recipe(config.model, images=len(read.train), trained=are_trained(config.init))
        config = build_config(name, config.model, ClassifyConfig).override({**given, "data": data})
    say_if_narrow(read.train, config.white)
    return Classification(config, *read)


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
    """Metrics of a model on a part of `data`, with the counts of images read and unreadable.

    `image_size` and `crop` stand for the model's own; `out` is a folder for `images.csv`, a row an image. Under
    `torchrun`, each process sees its share of the images, and all get the whole's metrics.
    """
    predictor = load(source)
    changed = predictor.resize(image_size, crop)
    origin = origin_of_model(source)
    samples = read_split(data, split, classes=predictor.classes, multi_label=predictor.multi_label, origin=origin)
    table = Table(out, "images.csv") if out is not None else None
    where = pick_device(device)
    with distributed.joined(where), autocast(where, precision):
        batches = eval_loader(
            samples,
            predictor.preprocessing,
            batch_size=batch_size,
            workers=workers,
            rank=distributed.rank(),
            processes=distributed.count(),
        )
        predictions = merge(distributed.gather(predict(predictor.model.to(where), batches, where)))
    if table is not None and distributed.rank() == 0:
        table.write(rows(predictions, samples))
    return {
        **accuracy(predictions),
        "split": samples.part,
        "images": len(predictions.targets),
        "unreadable": len(predictions.unreadable),
        **changed,
    }
