"""Labels of images that may be wrong, by answers of models that did not learn from them (`analysis.label_errors`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from convnext.analysis.label_errors import Suspect, find_label_errors, probe_out_of_fold, stratified_folds
from convnext.analysis.probe import stage_features
from convnext.data.check.problem import Problem
from convnext.data.exclude import read_exclude
from convnext.data.image_set import ImageSet, read_every_part
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import eval_loader
from convnext.data.splits import origin_of
from convnext.errors import InputError
from convnext.printing import counted, progress
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.metrics import Predictions
from convnext.tasks.classify.task import Classification
from convnext.tasks.load import load
from convnext.weights.class_names import descriptions_of

PROBE_FOLDS = 5
TRAINED_FOLDS = 2
"""Each more is a training more; with few epochs, two models of half the images say more than many short trainings."""
PROBE_BATCH = 64
SQUARE = 224
"""Side of the squares in which the backbone of a network that sees whole images sees them, in pixels."""

CrossFit = Callable[[Callable[[np.ndarray, np.ndarray], Classification], np.ndarray], Iterable[tuple[np.ndarray, Any]]]
"""`train.cross_fit.answers_out_of_fold`."""


def problems_of_labels(config: ClassifyConfig, source: str | None, cross_fit: CrossFit) -> list[Problem]:
    """Labels of all parts that may be wrong, worst first: by a probe on features of the weights at `source`, or without
    them by short trainings. `InputError` for images of several labels."""
    if config.multi_label:
        raise InputError("wrong labels are looked for where each image has one label")
    images = read_every_part(config.data, form=config.format, exclude=read_exclude(config.exclude))
    if source is None:
        return as_problems(images, suspects_by_training(config, images, cross_fit))
    return as_problems(images, suspects_by_probe(config, source, images))


def features_of(source: str, images: ImageSet, *, device: str, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Features `[n, D]` (`stage_features`) by the backbone of the weights at `source`, and the places `[n]` of the
    images that can be read. `InputError` if none can."""
    predictor = load(source, device=device, backend="torch")
    backbone = getattr(predictor.model, "backbone", predictor.model)
    seen = predictor.transform
    squares = seen if isinstance(seen, Preprocessing) else Preprocessing.standard(SQUARE, backbone.in_chans)
    rows, places = [], []
    with progress("looking at images", len(images)) as advance:
        for batch in eval_loader(images, squares, batch_size=PROBE_BATCH, workers=workers):
            if len(batch.indices):
                rows.append(stage_features(backbone, batch.on(predictor.device)).cpu())
                places += batch.indices.tolist()
            advance(len(batch.indices) + len(batch.unreadable))
    if not rows:
        raise InputError("no image can be read")
    return torch.cat(rows).numpy(), np.array(places)


def suspects_by_probe(config: ClassifyConfig, source: str, images: ImageSet) -> list[Suspect]:
    """Suspected labels by a linear probe on features of the weights at `source`, out of fold."""
    features, places = features_of(source, images, device=config.device, workers=config.workers)
    labels = np.array(images.targets)[places]
    probabilities = probe_out_of_fold(features, labels, len(images.classes), PROBE_FOLDS)
    return [s._replace(place=int(places[s.place])) for s in find_label_errors(probabilities, labels)]


def suspects_by_training(config: ClassifyConfig, images: ImageSet, cross_fit: CrossFit) -> list[Suspect]:
    """Suspected labels by short trainings on `TRAINED_FOLDS` parts of the images, each answering about the rest."""

    def build(fitted: np.ndarray, own: np.ndarray) -> Classification:
        train, held = images.take(fitted.tolist()), replace(images.take(own.tolist()), part="val")
        quick = replace(config, eval_every=config.epochs)
        return Classification(quick, train, held, origin_of(None, train.sources, lambda i: b""))

    if len(images) < 2 * TRAINED_FOLDS:  # a training takes two
        raise InputError(f"{config.data}: {counted(len(images), 'image')} cannot be trained on in parts")
    labels = np.array(images.targets)
    folds = stratified_folds(labels, TRAINED_FOLDS)
    probabilities = np.full((len(images), len(images.classes)), np.nan)
    for own, answers in cross_fit(build, folds):
        probabilities[own[answers.indices.numpy()]] = probabilities_of(answers)
    places = np.flatnonzero(np.isfinite(probabilities[:, 0]))
    found = find_label_errors(probabilities[places], labels[places])
    return [s._replace(place=int(places[s.place])) for s in found]


def probabilities_of(answers: Predictions) -> np.ndarray:
    """Probabilities `[M, K]`. `InputError` where there were too many scores to keep."""
    if answers.logits is None:
        raise InputError("there are too many classes and images to look for wrong labels; give --with SOURCE")
    return answers.logits.double().softmax(1).numpy()


def as_problems(images: ImageSet, suspects: Sequence[Suspect]) -> list[Problem]:
    """Suspected labels as problems, in their order, whose paths are the images' sources."""
    meanings = descriptions_of(images.classes)
    words = [meanings[name].partition(",")[0] if name in meanings else name for name in images.classes]
    return [
        Problem(
            kind="label",
            part="",
            paths=(images.sources[s.place],),
            words=f"labelled {words[s.label]}, looks like {words[s.suggested]}",
            score=round(s.score, 6),
            label=images.classes[s.label],
            suggested=images.classes[s.suggested],
        )
        for s in suspects
    ]
