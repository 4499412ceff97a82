"""What an answer rests on: Grad-CAM stated again on timm's network, and places that are known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from making import TrainedOnce
from peers import randomise
from PIL import Image
from torch.nn import functional as F

import convnext
from convnext import InputError
from convnext.analysis.attribution import attribute, class_activation, object_of
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.images.whole_image import WholeImage
from convnext.inference.classifier import ImageClassifier
from convnext.inference.detector import Detector
from convnext.models.detection.rcnn import create_detector
from convnext.weights.layouts import from_official


def picture(height: int = 64, width: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def classifier() -> ImageClassifier:
    torch.manual_seed(0)
    model = randomise(convnext.create_model("convnextv2_atto", num_classes=4))
    return ImageClassifier(model, ["a", "b", "c", "d"], Preprocessing.standard(64))


@pytest.mark.parametrize("stage", [2, 4])
def test_gradcam_is_that_of_another_network(classifier: ImageClassifier, stage: int) -> None:
    other = timm.create_model("convnextv2_atto", num_classes=4).eval()
    other.load_state_dict(from_official(classifier.model.state_dict(), "timm"))
    maps: list[torch.Tensor] = []
    other.stages[stage - 1].register_forward_hook(lambda layer, inputs, out: maps.append(out))
    inputs = classifier.preprocessing(picture())[None]
    logit = other(inputs)[0, 2]
    gradient = torch.autograd.grad(logit, maps[-1])[0]
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    expected = F.relu((weights * maps[-1]).sum(1, keepdim=True))
    expected = F.interpolate(expected, size=(64, 64), mode="bilinear", align_corners=False)[0, 0]
    found = attribute(classifier, picture(), "c", stage=stage)
    assert found.label == "c"
    np.testing.assert_allclose(found.places, (expected / expected.max()).detach().numpy(), atol=1e-4)


def test_what_an_engine_computes_is_explained_too(atto_run: Path) -> None:
    """OpenVINO is what `load` takes by itself where it is installed, and has no gradients."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    engine = convnext.load(atto_run, device="cpu", backend="openvino")
    found = attribute(engine, picture())
    expected = attribute(convnext.load(atto_run, device="cpu", backend="torch"), picture())
    assert found.label == expected.label
    np.testing.assert_allclose(found.places, expected.places, atol=1e-4)
    assert engine.backend.startswith("openvino"), "it computes on as before"
    assert engine.model.engine is not None


def test_methods_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, -1.0]]]])  # one row of two positions, two channels
    gradient = torch.tensor([[[[1.0, -1.0], [-0.5, 2.0]]]])
    # mean gradients 0.25 and 0.5
    torch.testing.assert_close(class_activation(maps, gradient), torch.tensor([[[1.25, 0.25]]]))
    # products -1 and -3.5
    torch.testing.assert_close(class_activation(maps, gradient, "hirescam"), torch.tensor([[[0.0, 0.0]]]))
    # positive parts (1, 0) and (0, 2)
    torch.testing.assert_close(class_activation(maps, gradient, "layercam"), torch.tensor([[[1.0, 0.0]]]))


def test_the_networks_own_answer_is_explained(classifier: ImageClassifier) -> None:
    best = classifier(picture())[0]
    found = attribute(classifier, picture())
    assert (found.label, found.score) == (best["label"], pytest.approx(best["score"], abs=1e-6))
    assert found.places.shape == (64, 64)
    assert found.places.max() == pytest.approx(1, abs=1e-6)
    assert found.places.min() >= 0
    assert not any(parameter.grad is not None for parameter in classifier.model.parameters())


def test_a_calibrated_score_is_the_predictors(classifier: ImageClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = attribute(classifier, picture()).score
    monkeypatch.setattr(classifier, "temperature", 3.0)
    found = attribute(classifier, picture())
    assert found.score == pytest.approx(classifier(picture())[0]["score"], abs=1e-6)
    assert found.score < plain - 0.01


def test_a_network_of_half_width_is_explained(classifier: ImageClassifier) -> None:
    """NumPy has no bf16: it ended in a traceback."""
    model = copy.deepcopy(classifier.model).bfloat16()
    found = attribute(ImageClassifier(model, classifier.classes, classifier.preprocessing), picture(), "c")
    expected = attribute(classifier, picture(), "c").places
    np.testing.assert_allclose(found.places, expected, atol=0.1)


def test_what_cannot_be_explained(classifier: ImageClassifier) -> None:
    with pytest.raises(InputError, match="no class 'e'"):
        attribute(classifier, picture(), "e")
    with pytest.raises(InputError, match="stages 1 to 4, not 5"):
        attribute(classifier, picture(), stage=5)
    torch.manual_seed(0)
    bare = convnext.Embedder(convnext.create_model("convnextv2_atto", num_classes=0), Preprocessing.standard(64))
    with pytest.raises(InputError, match="names none"):
        attribute(bare, picture())


def mean_inside(places: np.ndarray, box: Any) -> float:
    """Mean inside a box over the mean of all."""
    x0, y0, x1, y1 = (round(value) for value in box)
    return float(places[y0:y1, x0:x1].mean() / places.mean())


def test_a_detected_object_is_where_its_box_is(trained_once: TrainedOnce) -> None:
    """A few steps of training find something; what speaks for it lies in the stage's cells about the box."""
    data, run = trained_once("detect")
    detector = convnext.load(run, device="cpu", backend="torch")
    path = sorted((data / "val").glob("*.png"))[0]
    objects = detector(path, 0.0)
    assert objects
    found = attribute(detector, path, stage=1)
    assert (found.label, found.score) == (objects[0]["label"], pytest.approx(objects[0]["score"], abs=1e-5))
    assert found.places.shape == found.picture.size[::-1]
    assert found.box is not None
    assert mean_inside(found.places, found.box) > 1
    other = next(name for name in detector.classes if name != found.label)
    if not any(each["label"] == other for each in objects):
        with pytest.raises(InputError, match=f"no {other} is found"):
            attribute(detector, path, other)


def test_a_segmenters_class(trained_once: TrainedOnce) -> None:
    _, run = trained_once("segment")
    segmenter = convnext.load(run, device="cpu", backend="torch")
    image = picture(50, 70)
    found = attribute(segmenter, image)
    labels = segmenter(image)
    assert found.label == segmenter.classes[np.bincount(labels.flatten()).argmax()]
    assert found.score == pytest.approx((labels == segmenter.classes.index(found.label)).mean(), abs=0.05)
    assert found.places.shape == found.picture.size[::-1]


@pytest.mark.parametrize("label", [None, 0])
def test_an_objects_logit_is_its_own_class_s(label: int | None) -> None:
    """Of a detector whose logits are the same everywhere: 5, 1 and 3 of its classes, 0 of the background."""
    torch.manual_seed(0)
    model = create_detector("convnextv2_atto", num_classes=3, fpn_dim=16, linear_dim=16, masks=False).eval()
    with torch.no_grad():
        model.box_stages[0].head.classify.weight.zero_()
        model.box_stages[0].head.classify.bias[:] = torch.tensor([0.0, 5, 1, 3])
    found = object_of(Detector(model, ["a", "b", "c"], [1, 2, 3], WholeImage(64, 64)), torch.randn(3, 64, 64), label)
    assert found.label == 0
    assert found.logit.item() == pytest.approx(5)
    expected = torch.tensor([0.0, 5, 1, 3]).softmax(0)[1].item()
    assert found.score == pytest.approx(expected, abs=1e-4)
