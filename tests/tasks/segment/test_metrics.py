"""mIoU agrees with torchmetrics and with plain counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from convnext.data.sources.label_maps import IGNORED
from convnext.tasks.depth.evaluate import DepthEvaluator
from convnext.tasks.depth.metrics import MeasuredDepths, depth_metrics
from convnext.tasks.segment.evaluate import SegmentationEvaluator
from convnext.tasks.segment.metrics import Measured, MeasuredImage, confusion, iou_metrics, iou_per_class


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, 5, (3, 40, 30)).astype(np.int16)
    predicted = np.where(rng.random(truth.shape) < 0.6, truth.clip(0), rng.integers(0, 5, truth.shape))
    return truth, predicted.astype(np.uint16)


def test_agrees_with_torchmetrics_and_with_counting(maps: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = maps
    matrix = sum(confusion(t, p, 5) for t, p in zip(truth, predicted, strict=True))
    assert matrix.dtype == np.int64
    found = iou_metrics(matrix)
    t, p = torch.from_numpy(truth.astype(np.int64)), torch.from_numpy(predicted.astype(np.int64))
    theirs = MulticlassJaccardIndex(5, ignore_index=IGNORED)(p, t)
    assert found["mIoU"] == pytest.approx(100 * theirs.item(), abs=1e-4)
    for name, average in (("mean_accuracy", "macro"), ("pixel_accuracy", "micro")):
        theirs = MulticlassAccuracy(5, average=average, ignore_index=IGNORED)(p, t)
        assert found[name] == pytest.approx(100 * theirs.item(), abs=1e-4)
    counted = truth != IGNORED
    own = []
    for label in range(5):
        a, b = (truth == label) & counted, (predicted == label) & counted
        own.append((a & b).sum() / (a | b).sum())
    assert iou_per_class(matrix)["iou"].tolist() == own


def test_classes_that_are_not_there_count_nothing() -> None:
    truth = np.array([[0, 0, 1, IGNORED]], dtype=np.int16)
    matrix = confusion(truth, np.array([[0, 1, 1, 2]], dtype=np.uint16), 4)
    assert matrix.sum() == 3
    assert iou_metrics(matrix) == {"mIoU": 50.0, "mean_accuracy": 75.0, "pixel_accuracy": 66.6667}
    assert np.isnan(iou_per_class(matrix)["iou"][2:]).all()
    assert iou_metrics(np.zeros((2, 2), dtype=np.int64)) == {"pixels": 0}


def test_images_that_could_not_be_measured_are_not_counted_as_measured() -> None:
    one = MeasuredImage(1, {}, 0, 0, np.array([0]), np.array([5]))
    measured = Measured(np.array([[5, 0], [0, 0]]), [one])
    assert SegmentationEvaluator().counts(measured, range(3)) == {"images": 1, "unmeasured": 2}
    assert SegmentationEvaluator().counts(measured, range(1)) == {"images": 1}
    assert DepthEvaluator().counts(MeasuredDepths([(0, 9, {})], {}), range(2)) == {"images": 1, "unmeasured": 1}
    assert depth_metrics(MeasuredDepths([], {})) == {"pixels": 0}  # an error of 0 would be the best
