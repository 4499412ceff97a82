"""Pictures of a run's report show what was measured: each point, each image beside its truth and its answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from stubs import CLASSES, Painted, painted, stub_depth_estimator, stub_segmenter

from convnext.data.rle import from_mask
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.errors import ImageError
from convnext.inference.draw import draw_labels
from convnext.reports.plots import EXAMPLES
from convnext.tasks.classify.quality_plots import NAMED, plot_class_curves, plot_reliability
from convnext.tasks.depth.report import plot_depths
from convnext.tasks.detect.metrics import Result, evaluate_kinds
from convnext.tasks.detect.report import plot_detections, plot_precision
from convnext.tasks.segment.report import plot_label_maps

SIZE = (100, 80)


class Masked:
    """Stands for a detector that draws masks."""

    mask_heads = True


def points_of(axes: Axes) -> dict[Any, np.ndarray]:
    return {line.get_label(): np.stack(line.get_data(), axis=1) for line in axes.get_lines()}


def pictures_of(axes: Axes) -> np.ndarray:
    (picture,) = axes.get_images()
    return np.asarray(picture.get_array())


def one_large_object(place: Path) -> DetectionSet:
    """An image with an object of 50 by 50 pixels, and another without any."""
    Image.new("RGB", SIZE).save(place / "a.png")
    Image.new("RGB", SIZE).save(place / "b.png")
    square = Annotation(0, (10.0, 10, 60, 60), [[10.0, 10, 60, 10, 60, 60, 10, 60]], False, 2500.0)
    rows = (("a", (square,)), ("b", ()))
    images = [AnnotatedImage(i, place / f"{n}.png", f"{n}.png", *SIZE, objects) for i, (n, objects) in enumerate(rows)]
    return DetectionSet(("cat", "dog"), (1, 2), tuple(images))


def test_precision_over_recall_at_two_overlaps(charts: list[Figure], tmp_path: Path) -> None:
    """Of masks and of boxes; a class without objects does not count. The box overlaps by 0.6."""
    data = one_large_object(tmp_path)
    mask = np.zeros((80, 100), bool)
    mask[10:60, 10:60] = True
    found = [Result(0, 0, 0.9, [10.0, 10, 60, 40], from_mask(mask)), Result(1, 1, 0.8, [0.0, 0, 9, 9], from_mask(mask))]
    plot_precision(evaluate_kinds(data, found, Masked()), tmp_path / "x.png")
    masks, boxes = charts[0].axes
    assert (masks.get_title(), boxes.get_title()) == ("mask", "box")
    for axes, at_three_quarters in ((masks, 1), (boxes, 0)):
        lines = points_of(axes)
        assert list(lines) == ["overlap 0.50", "overlap 0.75"]
        for line, precision in zip(lines.values(), (1, at_three_quarters), strict=True):
            np.testing.assert_allclose(line, [(i / 100, precision) for i in range(101)])
    plot_precision({"box": None}, tmp_path / "x.png")
    assert points_of(charts[1].axes[0]) == {}


def test_what_a_detector_finds_stands_below_the_truth(charts: list[Figure], tmp_path: Path) -> None:
    """From a score of a half on."""
    data = one_large_object(tmp_path)
    found = [Result(0, 0, 0.9, [10.0, 10, 60, 60], None), Result(0, 0, 0.5, [1.0, 1, 9, 9], None)]
    plot_detections(data, [*found, Result(0, 0, 0.49, [1.0, 1, 9, 9], None)], tmp_path / "x.png")
    assert [axes.get_title() for axes in charts[0].axes] == ["truth: 1", "truth: 0", "found: 2", "found: 0"]
    truth, empty, own, nothing = (pictures_of(axes) for axes in charts[0].axes)
    assert truth[30, 30].any()  # an outline is filled
    assert not own[30, 30].any()
    assert own[30, 10].any()
    assert not empty.any()
    assert not nothing.any()


def test_pictures_of_objects_have_the_runs_white(charts: list[Figure], tmp_path: Path) -> None:
    """Of 12 bits in 16."""
    Image.fromarray(np.full((80, 100), 4095, np.uint16)).save(tmp_path / "grey.png")
    data = DetectionSet(("a",), (1,), (AnnotatedImage(1, tmp_path / "grey.png", "grey.png", 100, 80, ()),))
    plot_detections(data, [], tmp_path / "x.png", white=4095)
    assert (pictures_of(charts[0].axes[0]) == 255).all()


class Dense:
    """Images with their label or depth maps; the fourth cannot be read."""

    classes = CLASSES

    def __init__(self, count: int, truth: np.ndarray) -> None:
        self.count, self.truth, self.opened = count, truth, []

    def __len__(self) -> int:
        return self.count

    def open(self, place: int, white: int) -> tuple[Image.Image, np.ndarray]:
        self.opened.append((place, white))
        if place == 3:
            raise ImageError("4.png: truncated")
        return painted(SIZE, Painted(place % 3, 1.0, (0, 0, *SIZE))), self.truth


def shape_of_cells(figure: Figure, rows: int, columns: int) -> float:
    """Width over height: near 1, images of any shape fill them."""
    return (figure.get_figwidth() / columns) / (figure.get_figheight() / rows)


@pytest.mark.parametrize(("count", "places"), [(2, [0, 1]), (16, [0, 3, 6, 9, 12, 15])])
def test_label_maps_stand_beside_the_truth(count: int, places: list[int], charts: list[Figure], tmp_path: Path) -> None:
    truth = np.full((80, 100), 1, dtype=np.uint8)
    data: Any = Dense(count, truth)
    segmenter = stub_segmenter(80)
    segmenter.transform = replace(segmenter.transform, white=4095)
    plot_label_maps(segmenter, data, tmp_path / "x.png")
    assert data.opened == [(place, 4095) for place in places]
    assert len(places) <= EXAMPLES
    shown = [place for place in places if place != 3]
    rows = np.reshape(charts[0].axes, (len(shown), 3))
    assert [axes.get_title() for axes in rows[0]] == ["image", "truth", "prediction"]
    for place, row in zip(shown, rows, strict=True):
        image, labels = data.open(place, 4095)[0], np.full_like(truth, place % 3)
        expected = (image, draw_labels(image, truth, CLASSES), draw_labels(image, labels, CLASSES))
        for axes, picture in zip(row, expected, strict=True):
            np.testing.assert_array_equal(pictures_of(axes), np.asarray(picture))
    assert 0.8 < shape_of_cells(charts[0], len(shown), 3) < 1.25


def test_depths_have_the_colours_of_the_truth(charts: list[Figure], tmp_path: Path) -> None:
    """Where it is known: 0 says that it is not."""
    truth = np.full((80, 100), 2.0)
    truth[:, :10], truth[:, 90:] = 0, 30
    data: Any = Dense(1, truth)
    estimator = stub_depth_estimator(80)
    estimator.transform = replace(estimator.transform, white=4095)
    plot_depths(estimator, data, tmp_path / "x.png")
    assert data.opened == [(0, 4095)]
    image, known, found, _ = charts[0].axes
    assert pictures_of(image)[0, 0].tolist() == [255, 0, 0]
    np.testing.assert_array_equal(np.ma.filled(known.get_images()[0].get_array(), 0), truth)
    np.testing.assert_allclose(found.get_images()[0].get_array(), 25.5, rtol=1e-3)
    assert [axes.get_images()[0].get_clim() for axes in (known, found)] == [(2, 30)] * 2
    assert 0.8 < shape_of_cells(charts[0], 1, 3) < 1.25


def test_reliability_by_bins_and_by_coverage(charts: list[Figure], tmp_path: Path) -> None:
    scores = np.array([0.95] * 4 + [0.55] * 4)
    right = np.array([True] * 4 + [True, False, False, False])
    plot_reliability(scores, right, tmp_path / "x.png")
    bins, coverage = charts[0].axes
    np.testing.assert_allclose(bins.get_lines()[0].get_xydata(), [(0.55, 0.25), (0.95, 1)])
    assert sum(bar.get_height() for bar in bins.patches) == pytest.approx(1.25)
    assert bins.get_title() == "ECE 17.5 %"
    points = {tuple(point) for point in np.round(coverage.get_lines()[0].get_xydata(), 6).tolist()}
    assert {(50.0, 100.0), (100.0, 62.5)} <= points


def test_the_hardest_classes_are_named(charts: list[Figure], tmp_path: Path) -> None:
    """A class that no image shows, or all show, has no curve."""
    count = NAMED + 3
    truth = np.zeros((2 * count, count), bool)
    scores = np.zeros((2 * count, count))
    for k in range(count):
        truth[k, k] = True
        scores[k, k] = 1.0
        scores[count : count + k + 1, k] = 2.0  # as many images of other classes come first
    truth[0, 0], truth[:, 1] = False, True
    plot_class_curves(scores, truth, [f"class {k}" for k in range(count)], tmp_path / "x.png")
    precision, roc = charts[0].axes
    named = [f"class {k}" for k in range(count - 1, count - 1 - NAMED, -1)]
    assert [label for label in points_of(precision) if not label.startswith("_")] == named
    assert len(precision.get_lines()) == len(roc.get_lines()) == count - 2
    last = points_of(precision)[named[0]]
    assert {(1.0, round(1 / (count + 1), 6)), (0.0, 1.0)} <= {tuple(p) for p in np.round(last, 6).tolist()}
    rates = points_of(roc)[named[0]]
    assert (rates[0].tolist(), rates[-1].tolist()) == ([0, 0], [1, 1])
    before = rates[rates[:, 1] == 0][:, 0].max()
    assert before == pytest.approx(count / (2 * count - 1))
