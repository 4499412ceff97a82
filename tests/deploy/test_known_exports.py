"""Every form of a network whose answers are known: weights in each engine, and exports."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import plant_classifier, plant_segmenter, scores_of

import convnext
from convnext.deploy.export.write import export
from convnext.storage.exports import FORMATS

COLOURS = {"red": (230, 20, 60), "green": (10, 200, 90), "blue": (90, 40, 250)}
ENGINES = [("weights", "torch"), ("weights", "openvino")]
EXPORTS = [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino"), ("aot", "aot")]
HEAVY = [pytest.param(*each, marks=pytest.mark.heavy) for each in EXPORTS]

Forms = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Forms:
    """The planted network of a task as weights, or exported to a form."""
    folder = tmp_path_factory.mktemp("planted")
    weights = {
        "classify": plant_classifier(folder / "classify.safetensors"),
        "segment": plant_segmenter(folder / "segment.safetensors", 40),
    }

    @cache
    def make(task: str, form: str) -> Path:
        source = weights[task]
        return source if form == "weights" else export(source, source.with_suffix(FORMATS[form]), format=form).path

    return make


@pytest.mark.parametrize(("form", "backend"), [*ENGINES, *HEAVY])
def test_labels(form: str, backend: str, forms: Forms) -> None:
    """Of one image and of many, of any size."""
    classifier = convnext.load(forms("classify", form), device="cpu", backend=backend)
    images = [Image.new("RGB", (40 + 7 * i, 50), colour) for i, colour in enumerate(COLOURS.values())]
    for found, (name, colour) in zip(classifier(images, batch_size=2), COLOURS.items(), strict=True):
        assert found[0]["label"] == name
        assert {each["label"]: each["score"] for each in found} == pytest.approx(scores_of(colour), abs=1e-3)
    assert [each["label"] for each in classifier(images[1], top_k=1)] == ["green"]


@pytest.mark.parametrize(("form", "backend"), [*ENGINES, *HEAVY])
def test_label_maps(form: str, backend: str, forms: Forms) -> None:
    """Blocks of the stem's patches, in an image whose width is no multiple of the stride.

    A block is 4 pixels a side, and right in its middle: logits are enlarged from one a block.
    """
    segmenter = convnext.load(forms("segment", form), device="cpu", backend=backend)
    draw = np.random.default_rng(0)
    for height, width in ((40, 68), (72, 40)):
        labels = draw.integers(0, 3, (height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
        image = Image.fromarray(np.array(list(COLOURS.values()), dtype=np.uint8)[labels])
        middle = np.zeros((4, 4), dtype=bool)
        middle[1:3, 1:3] = True
        inside = np.tile(middle, (height // 4, width // 4))
        found = segmenter([image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
        for own, expected in zip(found, (labels, labels[:, ::-1]), strict=True):
            assert own.shape == (height, width)
            assert np.array_equal(own[inside], expected[inside])
