"""Segmenters and classifiers about images whose pixels are known: views, windows, sizes, scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stubs import StubSegmenter, stub_classifier, stub_segmenter
from torch import Tensor, nn

from convnext.data.images.whole_image import WholeImage
from convnext.errors import InputError
from convnext.inference.segmenter import Segmenter, label_at


def coloured(labels: np.ndarray) -> Image.Image:
    """An image of each pixel's class in full colour."""
    return Image.fromarray(255 * np.eye(3, dtype=np.uint8)[labels])


def random_labels(height: int, width: int) -> np.ndarray:
    """Blocks of 5 by 5 pixels, of which no two halves are each other's mirror image."""
    draw = np.random.default_rng(height * width)
    return draw.integers(0, 3, (-(-height // 5), -(-width // 5))).repeat(5, 0).repeat(5, 1)[:height, :width]


LABELS = random_labels(40, 60)
VIEWS: dict[str, dict[str, Any]] = {
    "whole": {},
    "mirrored": {"flip": True},
    "windows": {"window": 24, "stride": 10},
    "windows side by side": {"window": 20, "stride": 20},
    "mirrored windows": {"window": 24, "stride": 17, "flip": True},
    "scales": {"scales": (1.0, 2.0)},
    "all": {"window": 24, "stride": 10, "scales": (1.0, 2.0), "flip": True},
}


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_says_of_each_pixel_its_colour(view: str) -> None:
    assert np.array_equal(stub_segmenter(40, **VIEWS[view])(coloured(LABELS)), LABELS)


@pytest.mark.parametrize("view", ["windows", "windows side by side"])
def test_windows_give_the_whole_images_scores(view: str) -> None:
    """Of a network that sees each pixel alone, also where several windows overlap."""
    whole, windowed = stub_segmenter(40), stub_segmenter(40, **VIEWS[view])
    inputs = whole.transform(coloured(LABELS))
    torch.testing.assert_close(windowed.scores(inputs), whole.scores(inputs))
    assert set(windowed.model.seen) == {(windowed.window, windowed.window)}


def test_the_inputs_are_those_of_the_views() -> None:
    segmenter = stub_segmenter(40, scales=(0.5, 1.0, 1.5), flip=True)
    segmenter(coloured(LABELS))
    assert segmenter.model.seen == [(20, 30)] * 2 + [(40, 60)] * 2 + [(60, 90)] * 2
    segmenter = stub_segmenter(40, window=30)  # steps of two thirds of a window
    segmenter(coloured(LABELS))
    assert segmenter.model.seen == [(30, 30)] * 6


class AnswersByWidth(nn.Module):
    """Gives every pixel the logits that are known for an input of this width."""

    def __init__(self, logits: dict[int, list[float]]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return torch.tensor(self.logits[width])[None, :, None, None].expand(1, -1, height, width)


def test_views_are_averaged_as_probabilities() -> None:
    """Two views say the second class, and one the first with more certainty: by logits it would be the first."""
    logits = {30: [0.0, 2.0], 60: [8.0, 0.0], 120: [0.0, 2.0]}
    network: Any = AnswersByWidth(logits)
    segmenter = Segmenter(network, ["a", "b"], WholeImage(40, 60), scales=(0.5, 1.0, 2.0))
    found = segmenter.scores(segmenter.transform(coloured(LABELS)))
    first = (2 / (1 + np.exp(2)) + 1 / (1 + np.exp(-8))) / 3
    assert found[:, 7, 9].tolist() == pytest.approx([first, 1 - first], abs=1e-6)
    assert set(segmenter(coloured(LABELS)).flat) == {1}


def test_one_view_gives_logits() -> None:
    segmenter = Segmenter(AnswersByWidth({60: [3.0, 1.0]}), ["a", "b"], WholeImage(40, 60))  # type: ignore[arg-type]  # a stub
    assert segmenter.scores(segmenter.transform(coloured(LABELS)))[:, 0, 0].tolist() == [3.0, 1.0]


def test_a_mirrored_view_is_turned_back() -> None:
    """Its logits lie where the pixels do: the average is the whole image's own."""
    flipped, plain = stub_segmenter(40, flip=True), stub_segmenter(40)
    inputs = plain.transform(coloured(LABELS))
    torch.testing.assert_close(flipped.scores(inputs), plain.scores(inputs).softmax(0))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_many_label_maps_have_their_images_sizes(batch_size: int) -> None:
    maps = [random_labels(40, 60), random_labels(70, 40), random_labels(40, 40)]
    found = stub_segmenter(40)([coloured(labels) for labels in maps], batch_size=batch_size)
    for own, labels in zip(found, maps, strict=True):
        assert own.dtype == np.uint16
        assert np.array_equal(own, labels)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_map_seen_larger_is_the_images_own(factor: int) -> None:
    found = stub_segmenter(40 * factor)(coloured(LABELS))
    assert (found == LABELS).mean() > 0.99


def test_a_map_seen_smaller_is_right_within_its_blocks() -> None:
    labels = LABELS.repeat(4, 0).repeat(4, 1)
    found = stub_segmenter(40)(coloured(labels))
    assert found.shape == labels.shape
    inner = np.zeros((20, 20), dtype=bool)
    inner[4:-4, 4:-4] = True
    inside = np.tile(inner, (labels.shape[0] // 20, labels.shape[1] // 20))
    assert np.array_equal(found[inside], labels[inside])


def test_rows_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(0))
    whole = label_at(scores, (47, 71))
    monkeypatch.setattr("convnext.inference.segmenter.ENLARGED", 3 * 71 * 5)
    assert np.array_equal(label_at(scores, (47, 71)), whole)


def test_the_segmenter_sees_other_scales_when_told() -> None:
    segmenter = stub_segmenter(40, scales=(0.5,))
    assert segmenter.see(image_size=20, scales=(1.0, 2.0), flip=True) == {"image_size": 20}
    segmenter(coloured(LABELS))
    assert segmenter.model.seen == [(20, 30), (20, 30), (40, 60), (40, 60)]
    assert isinstance(segmenter.model, StubSegmenter)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),)])
def test_scales_that_make_no_sense_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="--scales takes positive numbers"):
        stub_segmenter(40).see(scales=scales)


def square(colour: tuple[int, int, int], size: tuple[int, int] = (30, 30)) -> Image.Image:
    return Image.new("RGB", size, colour)


def scores_of(found: Any) -> list[tuple[str, float]]:
    return [(each["label"], each["score"]) for each in found]


def test_scores_are_the_middle_pixels_shares() -> None:
    found = stub_classifier(32)(square((50, 150, 200)))
    assert scores_of(found) == [
        ("blue", pytest.approx(0.5, abs=1e-3)),
        ("green", pytest.approx(0.375, abs=1e-3)),
        ("red", pytest.approx(0.125, abs=1e-3)),
    ]
    assert scores_of(stub_classifier(32)(square((50, 150, 200)), top_k=2)) == scores_of(found)[:2]


def test_descriptions_stand_for_names() -> None:
    found = stub_classifier(32, descriptions={"red": "a red thing"})(square((200, 40, 10)), top_k=2)
    assert [each["label"] for each in found] == ["a red thing", "green"]


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_many_images_have_their_own_labels(batch_size: int) -> None:
    colours = [(200, 10, 10), (10, 10, 200), (10, 200, 10), (10, 10, 200)]
    found = stub_classifier(32)([square(c, (30 + 5 * i, 40)) for i, c in enumerate(colours)], batch_size=batch_size)
    assert [own[0]["label"] for own in found] == ["red", "blue", "green", "blue"]


def test_independent_labels_have_scores_of_their_own() -> None:
    """The logistic function of the logarithm of a level l is l / (1 + l)."""
    classifier = stub_classifier(32, multi_label=True)
    found = {each["label"]: each["score"] for each in classifier(square((3, 1, 255)))}
    assert found == pytest.approx({"red": 3 / 4, "green": 1 / 2, "blue": 255 / 256}, abs=2e-3)
    classifier.calibrate({"thresholds": [0.8, 0.1, 0.9]})
    assert [each["label"] for each in classifier(square((3, 1, 255)))] == ["blue", "green"]


def test_a_temperature_flattens_scores() -> None:
    """At 2, shares are those of the levels' square roots."""
    classifier = stub_classifier(32)
    classifier.calibrate({"temperature": 2.0})
    found = {each["label"]: each["score"] for each in classifier(square((16, 144, 64)))}
    assert found == pytest.approx({"red": 4 / 24, "green": 12 / 24, "blue": 8 / 24}, abs=2e-3)


@pytest.mark.parametrize(("crop", "image_size"), [(None, 64), (1.0, 64), (None, 384)])
def test_the_middle_of_the_image_is_the_middle_of_what_is_seen(crop: float | None, image_size: int) -> None:
    """Of a wide image with red and blue at its sides."""
    image = square((255, 0, 0), (120, 60))
    image.paste((0, 255, 0), (40, 20, 80, 40))
    image.paste((0, 0, 255), (100, 0, 120, 60))
    classifier = stub_classifier(32)
    classifier.see(image_size=image_size, crop=crop)
    assert classifier(image)[0]["label"] == "green"


def test_embeddings_of_one_and_of_many() -> None:
    classifier = stub_classifier(32)
    one = classifier.embed(square((9, 99, 199)))
    assert one.tolist() == pytest.approx([9, 99, 199], abs=0.01)
    many = classifier.embed([square((9, 99, 199)), square((1, 2, 3))], batch_size=1)
    np.testing.assert_allclose(many, [[9, 99, 199], [1, 2, 3]], atol=0.01)
