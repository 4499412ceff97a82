"""Embeddings of every kind of predictor, against the networks' own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convnext
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.images.whole_image import WholeImage
from convnext.inference.depth import DepthUnit
from convnext.models.detection.rcnn import create_detector
from convnext.models.fcmae import create_fcmae
from convnext.models.segmentation.upernet import create_segmenter
from convnext.weights.files import EMBEDS, are_trained, save_state

PREPROCESSING = Preprocessing.standard(64)
META = {"preprocessing": PREPROCESSING.to_dict()}
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 70, 80, 3), np.uint8)
IMAGES = [Image.fromarray(pixels) for pixels in PIXELS]


def inputs() -> torch.Tensor:
    return torch.stack([PREPROCESSING(image) for image in IMAGES])


def moved(model: Any) -> Any:
    """A network whose norms and biases are not those of the start, so that leaving one out is seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()


@pytest.fixture(params=["classifier", "headless", "projection"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path, str]:
    """A network, its weight file, and what it is."""
    classes = {"classifier": 7, "headless": 0, "projection": 24}[request.param]
    model = moved(convnext.create_model("convnextv2_atto", num_classes=classes))
    meta = META if request.param == "classifier" else META | {"task": EMBEDS}
    convnext.save_weights(model, tmp_path / "weights.safetensors", meta=meta)
    return model, tmp_path / "weights.safetensors", request.param


@torch.no_grad()
def test_embeddings_are_the_networks_own(network: tuple[Any, Path, str]) -> None:
    model, path, kind = network
    predictor = convnext.load(path, device="cpu", backend="torch")
    expected = (model(inputs()) if kind == "projection" else model.embed(inputs())).numpy()
    found = predictor.embed(IMAGES)
    assert found.dtype == np.float32
    assert found.shape == (5, predictor.width) == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert isinstance(predictor, convnext.ImageClassifier if kind == "classifier" else convnext.Embedder)
    if kind != "classifier":
        np.testing.assert_array_equal(predictor(IMAGES), found)


def test_embeddings_do_not_depend_on_the_batch_or_the_form(network: tuple[Any, Path, str], tmp_path: Path) -> None:
    predictor = convnext.load(network[1], device="cpu", backend="torch")
    alone = predictor.embed(IMAGES[0])
    assert alone.shape == (predictor.width,)
    for size in (1, 2, 5):
        np.testing.assert_allclose(predictor.embed(IMAGES, batch_size=size)[0], alone, atol=1e-5)
    backwards = predictor.embed(IMAGES[::-1])[::-1]
    np.testing.assert_allclose(backwards, predictor.embed(IMAGES), atol=1e-5)
    IMAGES[0].save(tmp_path / "a.png")
    tensor = torch.from_numpy(PIXELS[0]).permute(2, 0, 1)
    for form in (tmp_path / "a.png", str(tmp_path / "a.png"), PIXELS[0], tensor):
        np.testing.assert_array_equal(predictor.embed(form), alone)
    assert predictor.embed([]).shape == (0, predictor.width)


def test_weights_without_metadata_and_a_head_embed(tmp_path: Path) -> None:
    model = moved(convnext.create_model("convnext_tiny", num_classes=0))
    torch.save({"model": model.state_dict()}, tmp_path / "official.pt")
    predictor = convnext.load(tmp_path / "official.pt", device="cpu")
    assert predictor.preprocessing == Preprocessing.standard(224)
    with torch.no_grad():
        expected = model(Preprocessing.standard(224)(IMAGES[0])[None])[0].numpy()
    np.testing.assert_allclose(predictor.embed(IMAGES[0]), expected, atol=1e-4)


@torch.no_grad()
def test_an_encoder_of_pre_training_embeds_without_a_last_norm(tmp_path: Path) -> None:
    model = moved(create_fcmae("convnextv2_atto", decoder_dim=32, stem_patch=2, patch_size=16))
    save_state(tmp_path / "run.safetensors", model.state_dict(), META | {"task": "pretrain"})
    predictor = convnext.load(tmp_path / "run.safetensors", device="cpu")
    expected = model.encoder.forward_stages(inputs())[-1].mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(predictor.embed(IMAGES), expected, atol=1e-5 * np.abs(expected).max())


def dense(kind: str) -> Any:
    parts = {"fpn_dim": 16, "linear_dim": 16} if kind == "detector" else {"fpn_dim": 16, "aux_dim": 16}
    create = create_detector if kind == "detector" else create_segmenter
    model = moved(create("convnextv2_atto", num_classes=1 if kind == "depth" else 2, **parts))
    if kind == "detector":
        return convnext.Detector(model, ["a", "b"], [1, 2], WholeImage(64, 128))
    if kind == "segmenter":
        return convnext.Segmenter(model, ["a", "b"], WholeImage(64, 128))
    return convnext.DepthEstimator(model, WholeImage(64, 128), DepthUnit(True, 0.0, 1.0), depth_scale=1000)


@pytest.mark.parametrize("kind", ["detector", "segmenter", "depth"])
def test_networks_of_whole_images_embed_by_their_last_map(kind: str) -> None:
    predictor = dense(kind)
    images = [IMAGES[0], Image.fromarray(PIXELS[1, :50])]  # of two shapes
    found = predictor.embed(images)
    assert found.shape == (2, predictor.width) == (2, 320)
    for image, own in zip(images, found, strict=True):
        with torch.no_grad():
            last = predictor.model.backbone.forward_stages(WholeImage(64, 128)(image)[None])[-1]
            expected = predictor.model.norms[3](last).mean(dim=(1, 2))[0].numpy()
        np.testing.assert_allclose(own, expected, atol=1e-5)
        np.testing.assert_array_equal(predictor.embed(image), own)


@pytest.mark.parametrize("network", ["projection", "headless"], indirect=True)
def test_weights_that_embed_start_training_and_count_as_trained(network: tuple[Any, Path, str]) -> None:
    model, path, _ = network
    assert are_trained(path)
    started = convnext.create_model("convnextv2_atto", num_classes=3, weights=path)
    for name, tensor in model.state_dict().items():
        assert name.startswith("head.") or torch.equal(started.state_dict()[name], tensor)
    for dense_model in (create_detector, create_segmenter):
        backbone = dense_model("convnextv2_atto", num_classes=2, encoder={"weights": path}).backbone
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in backbone.state_dict().items())
