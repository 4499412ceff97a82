"""Answers as arrays: what `supervision` takes, and the same objects as the answers themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convnext.data.images.whole_image import WholeImage
from convnext.inference.arrays import area_arrays, detection_arrays
from convnext.inference.detector import Detector
from convnext.inference.segmenter import Segmenter
from convnext.models.detection.rcnn import create_detector
from convnext.models.segmentation.upernet import create_segmenter

supervision = pytest.importorskip("supervision", reason="supervision is not installed")


@pytest.mark.parametrize("masks", [True, False])
def test_a_detectors_arrays_are_its_answers(masks: bool) -> None:
    torch.manual_seed(0)
    model = create_detector("convnextv2_atto", num_classes=3, fpn_dim=32, linear_dim=32, masks=masks)
    detector = Detector(model, ["a", "b", "c"], [1, 2, 3], WholeImage(64, 128))
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    objects, arrays = detector(picture, threshold=0.0), detector.arrays(picture, threshold=0.0)
    found = supervision.Detections(**arrays)
    assert len(found) == len(objects) > 0
    assert found.xyxy == pytest.approx(np.array([each["box"] for each in objects]), abs=1e-4)
    assert found.confidence == pytest.approx(np.array([each["score"] for each in objects]), abs=1e-6)
    assert found["class_name"].tolist() == [each["label"] for each in objects]
    assert [detector.classes[n] for n in found.class_id] == found["class_name"].tolist()
    if masks:
        assert np.array_equal(found.mask, np.stack([each["mask"] for each in objects]))
    else:
        assert found.mask is None
    nothing = supervision.Detections(**detector.arrays(picture, threshold=1.1))
    assert len(nothing) == 0
    assert [len(each["class_id"]) for each in detector.arrays([picture, picture], threshold=0.0)] == 2 * [len(objects)]


def test_a_segmenters_arrays_are_its_label_map() -> None:
    torch.manual_seed(0)
    model = create_segmenter("convnextv2_atto", num_classes=3, fpn_dim=16, aux_dim=16)
    segmenter = Segmenter(model, ["a", "b", "c"], WholeImage(64, 128))
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    labels, found = segmenter(picture), supervision.Detections(**segmenter.arrays(picture))
    assert found.confidence is None
    drawn = np.full(labels.shape, 9)
    for mask, label in zip(found.mask, found.class_id, strict=True):
        drawn[mask] = label
    assert np.array_equal(drawn, labels)


def test_areas_by_hand() -> None:
    labels = np.array([[0, 0, 2], [0, 0, 2]])
    arrays = area_arrays(["x", "y", "z"], labels)
    assert arrays["xyxy"].tolist() == [[0, 0, 2, 2], [2, 0, 3, 2]]
    assert arrays["class_id"].tolist() == [0, 2]
    assert arrays["data"]["class_name"].tolist() == ["x", "z"]
    assert arrays["mask"].tolist() == [(labels == 0).tolist(), (labels == 2).tolist()]


def test_no_objects_have_the_shapes_of_arrays() -> None:
    arrays = detection_arrays(["x"], [], [], [], [], (4, 6))
    assert arrays["xyxy"].shape == (0, 4)
    assert arrays["mask"] is not None
    assert arrays["mask"].shape == (0, 4, 6)
    assert arrays["data"]["class_name"].dtype.kind == "U"
