"""Wrong labels of images, by the answers of models that did not learn from them (out of fold)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from convnext.errors import InputError

SEED = 0
"""Seed of the division into folds."""

Labels = Sequence[int] | np.ndarray
"""Position of the class of each image `[N]`."""


class Suspect(NamedTuple):
    """A label that may be wrong.

    Args:
        place: of the image in its set.
        label: position of the class that is given.
        suggested: position of the class that is answered.
        score: how sure it is that the label is wrong, from 0 to 1.
    """

    place: int
    label: int
    suggested: int
    score: float


def stratified_folds(labels: Labels, folds: int) -> np.ndarray:
    """A fold for each image `[N]`, from 0: each class is spread evenly over all folds, at random with a fixed seed.

    So of a class with two images or more, some lie outside every fold.
    """
    targets = np.asarray(labels)
    draws = np.random.default_rng(SEED)
    found = np.empty(len(targets), dtype=np.int64)
    first = 0
    for label in np.unique(targets):
        members = draws.permutation(np.flatnonzero(targets == label))
        found[members] = (first + np.arange(len(members))) % folds
        first += len(members)  # else small classes would all fill the first folds
    return found


def divisions(folds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each fold the places `[N - n]` outside it and `[n]` in it."""
    for fold in range(int(folds.max()) + 1):
        yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def probe_out_of_fold(features: np.ndarray, labels: Labels, classes: int, folds: int) -> np.ndarray:
    """Probabilities `[N, classes]` of each image by a logistic regression on the features `[N, D]` of the other folds.

    Features are standardised by the mean and deviation of what is fitted on. Where that is all of one class, it is the
    answer. `InputError` where all images are.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    targets = np.asarray(labels)
    if len(np.unique(targets)) < 2:
        raise InputError("the images that can be read are all of one class: there is no other that they could be of")
    probabilities = np.zeros((len(targets), classes))
    for fitted, own in divisions(stratified_folds(labels, folds)):
        if len(known := np.unique(targets[fitted])) == 1:
            probabilities[own, known[0]] = 1.0
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300, tol=1e-3))
        probe.fit(features[fitted], targets[fitted])
        probabilities[np.ix_(own, probe.classes_)] = probe.predict_proba(features[own])
    return probabilities


def find_label_errors(probabilities: np.ndarray, labels: Labels) -> list[Suspect]:
    """Labels that are not the likeliest class, worst first.

    The score is 1 less the label's probability, its self-confidence (Northcutt, Jiang and Chuang 2021, arXiv
    1911.00068; decision 28). Images whose class no other image has are left out: nobody could have learnt it.

    Args:
        probabilities: out of fold, `[N, K]`.
        labels: of each image, positions of classes.
    """
    targets, rows = np.asarray(labels), np.arange(len(labels))
    counts = np.bincount(targets, minlength=probabilities.shape[1])
    answers = probabilities.argmax(axis=1)
    given = probabilities[rows, targets]
    scores = 1 - given
    places = np.flatnonzero((given < probabilities[rows, answers]) & (counts[targets] > 1))
    order = places[np.argsort(-scores[places], kind="stable")]
    return [Suspect(int(i), int(targets[i]), int(answers[i]), float(scores[i])) for i in order]
