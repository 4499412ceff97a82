"""COCO's figures agree with pycocotools on the same detections; the truth given back is perfect."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convnext.data.images.whole_image import WholeImage
from convnext.data.problems import Problems
from convnext.data.rle import from_mask, to_masks
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.data.sources.coco import read_coco
from convnext.inference.detector import Detector
from convnext.models.detection.rcnn import create_detector
from convnext.tasks.detect.data import DetectionBatch
from convnext.tasks.detect.metrics import (
    FIGURES,
    Result,
    as_coco,
    coco_eval,
    coco_metrics,
    detect_batches,
    evaluate_kinds,
    has_objects,
    merge_results,
    metrics_of,
    per_category,
    truth_of,
)


@pytest.fixture(params=["coco100/train", "nuclei/val"])
def data(request: pytest.FixtureRequest, real_images: Path) -> DetectionSet:
    path = real_images / request.param
    whole = read_coco(path.with_suffix(".json"), path, Problems())
    return replace(whole, images=whole.images[:40])


def detections(data: DetectionSet, *, noise: float) -> list[Result]:
    """The truth without crowds, moved about, some of it missing, some twice, some as another class."""
    rng = np.random.default_rng(0)
    rows = []
    for place, image in enumerate(data.images):
        objects = [a for a in image.annotations if not a.crowd]
        masks = to_masks([a.outline for a in objects], image.width, image.height).numpy()
        for a, mask in zip(objects, masks, strict=True):
            for _ in range(1 if noise == 0 else int(rng.integers(0, 3))):
                dx, dy = (rng.normal(0, noise, 2) * (a.box[2] - a.box[0])).round().astype(int).tolist()
                label = a.label if noise == 0 or rng.random() < 0.9 else int(rng.integers(len(data.classes)))
                x0, y0, x1, y1 = a.box
                box = [x0 + dx, y0 + dy, x1 + dx, y1 + dy]
                rows.append(Result(place, label, float(rng.random()), box, from_mask(np.roll(mask, (dy, dx), (0, 1)))))
    return rows


def pycocotools(data: DetectionSet, results: list[Result], kind: str) -> np.ndarray:
    """The figures of results by COCO's ids, as they are written, on its own form of the truth."""
    places = {image.id: place for place, image in enumerate(data.images)}
    labels = {id: label for label, id in enumerate(data.category_ids)}
    rows = [
        {**row, "image_id": places[row["image_id"]], "category_id": labels[row["category_id"]]}
        for row in as_coco(data, results)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = truth_of(data, kind)
        truth.createIndex()
        left_out = {"segm": "bbox", "bbox": "segmentation"}[kind]
        own = [{name: value for name, value in copy.deepcopy(row).items() if name != left_out} for row in rows]
        evaluation = COCOeval(truth, truth.loadRes(own), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_all_figures_are_those_of_pycocotools(data: DetectionSet, kind: str) -> None:
    rows = detections(data, noise=0.15)
    ours = coco_metrics(coco_eval(data, rows, kind))
    assert 0.05 < ours["AP"] < 0.9
    assert list(ours) == list(FIGURES)
    np.testing.assert_allclose(list(ours.values()), pycocotools(data, rows, kind), atol=1e-6)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_truth_given_back_is_perfect(data: DetectionSet, kind: str) -> None:
    ours = coco_metrics(coco_eval(data, detections(data, noise=0), kind))
    assert [ours[name] for name in ("AP", "AP50", "AP75")] == [1, 1, 1]


def test_by_category(data: DetectionSet) -> None:
    rows = detections(data, noise=0)
    evaluation = coco_eval(data, rows, "bbox")
    table = per_category(evaluation, data)
    assert all(row["AP"] == 100 for row in table)
    crowds = sum(a.crowd for image in data.images for a in image.annotations)
    assert sum(row["objects"] for row in table) + crowds == sum(len(image.annotations) for image in data.images)


def test_nothing_found(data: DetectionSet) -> None:
    assert coco_eval(data, [], "bbox") is None
    wrong = [Result(0, 0, 0.5, [0.0, 0, 1, 1], from_mask(np.eye(data.images[0].height, data.images[0].width)))]
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        # The sizes that are there, with figures of 0, are those that are measured where something wrong is found.
        of_wrong = metrics_of(data, {name: coco_eval(data, wrong, kind)})
        assert metrics_of(data, {name: None}) == of_wrong
        assert set(of_wrong.values()) == {0.0}
    assert {row["AP"] for row in per_category(None, data)} == {0.0}


def test_an_image_that_cannot_be_read_is_named(data: DetectionSet, caplog: pytest.LogCaptureFixture) -> None:
    detector = Detector(create_detector("convnextv2_atto", num_classes=1), ["a"], [1], WholeImage(64, 64))
    batch = DetectionBatch([], [], [], [(0, "a.png: the file is truncated")])
    assert detect_batches(detector, [batch], data) == []
    assert "a.png: the file is truncated" in caplog.text


def test_figures_do_not_depend_on_the_order_in_which_images_were_seen(data: DetectionSet) -> None:
    """Of objects with one score, which counts first is decided by the place of their image."""
    rows = [row._replace(score=0.5) for row in detections(data, noise=0.3)]
    parts = [[row for row in reversed(rows) if row.image % 3 == rank] for rank in range(3)]
    parts = [sorted(part, key=lambda row: -row.image) for part in parts]
    expected = coco_metrics(coco_eval(data, merge_results([list(reversed(rows))]), "bbox"))
    assert coco_metrics(coco_eval(data, merge_results(parts), "bbox")) == expected


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ids_of_images_may_be_any(data: DetectionSet, kind: str) -> None:
    """The evaluation's own code takes 64 bits."""
    ids = [-1, 2**70, "a", *range(-len(data), -3)]
    other = replace(data, images=tuple(replace(i, id=id) for i, id in zip(data.images, ids, strict=True)))
    rows = detections(other, noise=0.15)
    assert coco_metrics(coco_eval(other, rows, kind)) == coco_metrics(coco_eval(data, rows, kind))
    assert as_coco(other, rows)[0]["image_id"] == ids[rows[0].image]


def test_masks_of_a_class_without_outlines_are_not_measured(data: DetectionSet) -> None:
    """Its row would hold numpy's mean of nothing."""
    first = data.images[0].annotations[0].label
    images = [
        replace(i, annotations=tuple(replace(a, outline=None) if a.label == first else a for a in i.annotations))
        for i in data.images
    ]
    bare = replace(data, images=tuple(images))
    rows = detections(data, noise=0)
    names = {row["category"] for row in per_category(coco_eval(bare, rows, "segm"), bare)}
    assert names == {row["category"] for row in per_category(coco_eval(data, rows, "segm"), data)} - {
        data.classes[first]
    }


def test_parts_that_share_ids_can_be_joined(data: DetectionSet) -> None:
    twice = replace(data, images=(*data.images, *data.images))
    rows = detections(twice, noise=0)
    assert coco_metrics(coco_eval(twice, rows, "bbox"))["AP"] == 1


def test_what_is_measured() -> None:
    """Boxes always; masks where the model draws them and an object that is searched for has an outline."""
    square = [[2.0, 2, 12, 2, 12, 12, 2, 12]]
    bare = Annotation(0, (2.0, 2, 12, 12), None, False, 100.0)
    outlined = replace(bare, outline=square)
    crowd = replace(bare, outline={"size": [20, 20], "counts": [0, 400]}, crowd=True)

    def measured(*annotations: Annotation, mask_heads: bool = True) -> tuple[set[str], bool]:
        image = AnnotatedImage(1, Path("a.png"), "a.png", 20, 20, annotations)
        data = DetectionSet(("a",), (1,), (image,))
        return set(evaluate_kinds(data, [], SimpleNamespace(mask_heads=mask_heads))), has_objects(data)

    assert measured(bare) == ({"box"}, True)
    assert measured(bare, crowd) == ({"box"}, True)
    assert measured(bare, outlined) == ({"box", "mask"}, True)
    assert measured(outlined, mask_heads=False) == ({"box"}, True)
    assert measured(crowd) == ({"box"}, False)
    assert measured() == ({"box"}, False)
