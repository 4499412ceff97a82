"""Classification from a user's point of view: choose a recipe, train or resume, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnext import processes
from convnext.config import ClassifyConfig
from convnext.data.loader import eval_loader
from convnext.data.samples import Split, read_split, read_train_val
from convnext.deploy.predictor import load
from convnext.device import pick_device
from convnext.evaluate.accuracy import accuracy, merge, predict
from convnext.recipes import build_config, classify_recipe
from convnext.run import resumed_config, val_fraction_of
from convnext.tasks.classify import Classification
from convnext.weights import are_trained


def build_task(data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool) -> Classification:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's."""
    config = (
        resumed_config(ClassifyConfig, data, out, given)
        if resume
        else ClassifyConfig().override({**given, "data": data})
    )
    splits = read_train_val(config.data, val_fraction=config.val_fraction, multi_label=config.multi_label)
    if not resume:
        name = recipe or classify_recipe(config.model, images=len(splits[0]), trained=are_trained(config.init))
        config = build_config(name, config.model, ClassifyConfig).override({**given, "data": data})
    return Classification(config, *splits)


def evaluate_source(
    source: str, data: str, split: Split, *, batch_size: int, workers: int, device: str
) -> dict[str, Any]:
    """Metrics of a model on a split of `data`, with the counts of images read and unreadable.

    Under `torchrun`, each process sees its share of the images, and all get the whole's metrics.
    """
    predictor = load(source)
    fraction = val_fraction_of(source, ClassifyConfig.val_fraction)
    samples = read_split(
        data, split, classes=predictor.classes, val_fraction=fraction, multi_label=predictor.multi_label
    )
    where = pick_device(device)
    with processes.joined(where):
        batches = eval_loader(
            samples,
            predictor.preprocessing,
            batch_size=batch_size,
            workers=workers,
            rank=processes.rank(),
            processes=processes.count(),
        )
        predictions = merge(processes.gather(predict(predictor.model.to(where), batches, where)))
    return {
        **accuracy(predictions),
        "split": split,
        "images": len(predictions.targets),
        "unreadable": len(predictions.unreadable),
    }
