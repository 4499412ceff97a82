"""Folds, and wrong labels among answers that are known."""

import numpy as np
import pytest
from vacuous import nonempty

from convnext.analysis.label_errors import (
    divisions,
    find_label_errors,
    probe_out_of_fold,
    stratified_folds,
)
from convnext.errors import InputError


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_cover_all_once_and_spread_each_class(folds):
    labels = [0] * 11 + [1] * 7 + [2] * 2 + [3]
    found = stratified_folds(labels, folds)
    own = np.concatenate([own for _, own in divisions(found)])
    assert sorted(own.tolist()) == list(range(len(labels)))
    counts = np.array([np.bincount(found[np.array(labels) == label], minlength=folds) for label in range(4)])
    assert (counts.max(1) - counts.min(1)).max() <= 1
    whole = np.bincount(found, minlength=folds)
    assert whole.max() - whole.min() <= 1


def test_what_is_fitted_on_never_holds_what_is_answered():
    for fitted, own in nonempty(divisions(stratified_folds([0, 1] * 10, 4))):
        assert not set(fitted) & set(own)
        assert len(fitted) + len(own) == 20


def test_a_label_is_suspected_where_another_class_is_likelier():
    rows = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.4, 0.6], [0.2, 0.8], [0.5, 0.5]])
    suspects = find_label_errors(rows, [0, 1, 1, 1, 0, 1])
    assert [(s.place, s.label, s.suggested) for s in suspects] == [(4, 0, 1), (1, 1, 0)]
    assert [s.score for s in suspects] == [pytest.approx(0.8), pytest.approx(0.6)]


def test_a_class_of_one_image_is_not_suspected():
    rows = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.1, 0.8, 0.1], [0.95, 0.05, 0.0]])
    assert find_label_errors(rows, [0, 0, 1, 1, 2]) == []
    assert [s.place for s in find_label_errors(rows, [0, 0, 1, 1, 1])] == [4]


def test_a_probe_of_one_image_beside_a_class():
    """The fold of that image leaves one class alone to be fitted on."""
    features = np.random.default_rng(0).normal(size=(9, 4))
    labels = [0] * 8 + [1]
    probabilities = probe_out_of_fold(features, labels, 2, 5)
    assert probabilities.sum(1) == pytest.approx(np.ones(9))
    assert probabilities[8].tolist() == [1, 0]
    assert find_label_errors(probabilities, labels) == []
    with pytest.raises(InputError, match="all of one class"):
        probe_out_of_fold(features, [0] * 9, 2, 5)


def test_flipped_labels_of_clusters_are_found_by_a_probe():
    draws = np.random.default_rng(0)
    truth = np.arange(300) % 4
    features = 2.5 * draws.normal(size=(4, 16))[truth] + draws.normal(size=(300, 16))
    labels, flipped = truth.copy(), draws.choice(300, 15, replace=False)
    labels[flipped] = (labels[flipped] + 1) % 4
    probabilities = probe_out_of_fold(features, labels, 6, 5)
    assert probabilities.shape == (300, 6)
    assert probabilities.sum(1) == pytest.approx(np.ones(300))
    assert not probabilities[:, 4:].any()
    suspects = find_label_errors(probabilities, labels)
    first = suspects[:15]
    assert len({s.place for s in first} & set(flipped.tolist())) >= 14
    assert [s.suggested for s in first if s.place in flipped] == [truth[s.place] for s in first if s.place in flipped]
    assert [s.score for s in suspects] == sorted((s.score for s in suspects), reverse=True)
