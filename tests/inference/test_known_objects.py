"""Detectors about images whose objects are known: where they lie, in one image and many, resized, and in tiles."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stubs import CATEGORY_IDS, CLASSES, Painted, StubDetector, area_of, painted, stub_detector
from torch import Tensor, nn

from convnext.errors import InputError
from convnext.inference.detector import Detector, Found, exported_detector
from convnext.inference.tiles import find_in_tiles, tile_starts

RED = Painted(0, 0.8, (10, 20, 40, 60))
GREEN = Painted(1, 0.4, (60, 5, 90, 45), round=True)
BLUE = Painted(2, 0.2, (50, 60, 90, 75))
SIZE = (100, 80)


def objects_of(found: Any) -> list[tuple[str, float, list[float]]]:
    return [(each["label"], each["score"], each["box"]) for each in found]


def known(*objects: Painted) -> list[tuple[str, float, list[float]]]:
    return [(CLASSES[each.label], pytest.approx(each.score), pytest.approx(each.box)) for each in objects]


def test_objects_lie_where_they_are_painted() -> None:
    found = stub_detector(80)(painted(SIZE, BLUE, GREEN, RED), threshold=0.0)
    assert objects_of(found) == known(RED, GREEN, BLUE)
    assert np.array_equal(found[0]["mask"], area_of(RED, SIZE))
    assert np.array_equal(found[2]["mask"], area_of(BLUE, SIZE))
    assert (found[1]["mask"] != area_of(GREEN, SIZE)).mean() < 0.01


@pytest.mark.parametrize(
    ("threshold", "count"), [(None, 1), (0.0, 3), (0.2, 3), (0.21, 2), (0.4, 2), (0.41, 1), (1, 0)]
)
def test_a_threshold_is_the_least_score_that_counts(threshold: float | None, count: int) -> None:
    """Without one, a half."""
    assert objects_of(stub_detector(80)(painted(SIZE, RED, GREEN, BLUE), threshold)) == known(RED, GREEN, BLUE)[:count]


def test_each_class_has_its_own_threshold_once_calibrated() -> None:
    detector = stub_detector(80)
    detector.calibrate({"thresholds": [0.9, 0.5, 0.1]})
    image = painted(SIZE, RED, GREEN, BLUE)
    assert objects_of(detector(image)) == known(BLUE)
    assert objects_of(detector(image, 0.3)) == known(RED, GREEN)


class ExportedStub(nn.Module):
    """The stub as an export, which gives its outputs by name, one image at a time."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.engine, self.finder = "onnxruntime 1.0", StubDetector(masks)
        self.outputs = ["boxes", "scores", "labels", *(["masks"] if masks else [])]

    def run(self, images: Tensor) -> dict[str, Tensor]:
        (found,) = self.finder(list(images))
        return {name: getattr(found, name)[None] for name in self.outputs}

    @property
    def backbone(self) -> nn.Module:
        raise InputError("an export has no embeddings")


@pytest.mark.parametrize("masks", [True, False])
def test_an_exported_detector_gives_what_its_network_finds(masks: bool) -> None:
    """By its metadata: classes, the numbers of their categories, size, and rules of testing."""
    transform = {"short": 80, "long": 10**4}
    meta = {"classes": CLASSES, "category_ids": CATEGORY_IDS, "transform": transform, "export": {"nms_iou": 0.25}}
    detector: Any = exported_detector(ExportedStub(masks), {**meta, "testing": {"mask_padding": "zeros"}})  # type: ignore[arg-type]  # a stub
    assert (detector.category_ids, detector.mask_padding, detector.model.NMS_IOU) == (CATEGORY_IDS, "zeros", 0.25)
    assert detector.model.engine == "onnxruntime 1.0"
    detector.mask_padding = "border"
    images = [painted(SIZE, BLUE, RED), painted(SIZE), painted((120, 80), GREEN)]
    found = detector(images, 0.0)
    assert [objects_of(own) for own in found] == [known(RED, BLUE), [], known(GREEN)]
    assert ("mask" in found[0][0]) == masks
    if masks:
        assert np.array_equal(found[0][0]["mask"], area_of(RED, SIZE))
    with pytest.raises(InputError, match="no embeddings"):
        detector.embed(images[0])


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_many_images_have_their_own_objects(batch_size: int) -> None:
    """Images of different sizes, and one without objects."""
    images = [painted(SIZE, RED), painted((120, 80), BLUE, RED), painted((300, 80)), painted((160, 160), GREEN)]
    found = stub_detector(80)(images, 0.0, batch_size=batch_size)
    assert [objects_of(own) for own in found[:3]] == [known(RED), known(RED, BLUE), []]
    (halved,) = found[3]  # seen at half its size
    assert (halved["label"], halved["mask"].shape) == ("green", (160, 160))
    assert halved["box"] == pytest.approx(GREEN.box, abs=2)


@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_boxes_and_masks_are_in_the_images_own_pixels(factor: float) -> None:
    """Whatever the size at which the network sees it; a pixel's width off at most."""
    found = stub_detector(round(80 * factor))(painted(SIZE, RED, GREEN), threshold=0.0)
    for each, truth in zip(found, (RED, GREEN), strict=True):
        assert each["box"] == pytest.approx(truth.box, abs=1 + 1 / factor)
        assert each["mask"].shape == (80, 100)
        area = area_of(truth, SIZE)
        assert (each["mask"] & area).sum() / (each["mask"] | area).sum() > 0.85


def test_the_long_side_has_its_own_scale() -> None:
    """Rounded to whole pixels, the sides are not scaled alike: 201 by 33 is seen at 61 by 10."""
    found = stub_detector(10)(painted((201, 33), Painted(0, 1.0, (0, 0, 201, 33))))
    assert found[0]["box"] == pytest.approx([0, 0, 201, 33])
    assert found[0]["mask"].all()


def test_boxes_alone_have_no_mask() -> None:
    found = stub_detector(80, masks=False)(painted(SIZE, RED))
    assert objects_of(found) == known(RED)
    assert "mask" not in found[0]


SIDE = 64
PLACES = {
    "first": (3, 4, 23, 34),
    "last": (170, 130, 199, 149),
    "in an overlap": (48, 50, 60, 62),
    "on the image's edges": (0, 140, 30, 150),
    "cut by a square": (55, 5, 75, 20),
}


def test_squares_are_the_fewest_that_overlap_by_a_quarter() -> None:
    assert tile_starts(400, 400) == tile_starts(300, 400) == [0]
    assert tile_starts(700, 400) == [0, 300]
    assert tile_starts(701, 400) == [0, 150, 301]
    assert tile_starts(1000, 400) == [0, 300, 600]


def tiled(detector: Detector, image: Image.Image, **how: Any) -> list[Found]:
    return find_in_tiles(detector, image, SIDE, **how)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("masks", [True, False])
def test_tiles_find_an_object_once_and_where_it_lies(place: str, masks: bool) -> None:
    truth = Painted(1, 0.6, PLACES[place])
    (found,) = tiled(stub_detector(SIDE, masks=masks), painted((200, 150), truth))
    assert (found.label, found.score) == (1, pytest.approx(0.6))
    assert found.box == pytest.approx(truth.box)
    if not masks:
        assert found.mask is None
        return
    assert found.mask is not None
    assert np.array_equal(found.mask, area_of(truth, (200, 150)))


def test_tiles_find_all_objects_best_first() -> None:
    """Each with a score of its own; those of less than the least are left out."""
    scores = [0.4, 1.0, 0.2, 0.6, 0.8]
    truth = [Painted(i % 3, score, box) for i, (score, box) in enumerate(zip(scores, PLACES.values(), strict=True))]
    best = sorted(truth, key=lambda each: -each.score)
    for least, count in ((0.0, 5), (0.5, 3)):
        found = tiled(stub_detector(SIDE), painted((200, 150), *truth), least=least)
        assert [(each.label, each.box) for each in found] == [
            (each.label, pytest.approx(each.box)) for each in best[:count]
        ]
    assert tiled(stub_detector(SIDE), painted((200, 150))) == []


def test_an_image_smaller_than_a_tile_is_seen_whole() -> None:
    detector = stub_detector(40)
    image = painted((50, 40), Painted(0, 0.6, (5, 6, 25, 36)))
    (tile,) = find_in_tiles(detector, image, 64)
    ((whole,),) = detector.find([detector.transform(image)], [(40, 50)])
    assert (tile.label, tile.score, tile.box) == (whole.label, whole.score, whole.box)
    assert np.array_equal(tile.mask, whole.mask)


def test_what_is_larger_than_the_overlap_is_found_in_parts() -> None:
    """An object that no square has whole is not lost."""
    truth = Painted(2, 0.6, (10, 10, 190, 30))
    found = tiled(stub_detector(SIDE), painted((200, 150), truth))
    assert len(found) > 1
    assert np.array_equal(np.any([each.mask for each in found], axis=0), area_of(truth, (200, 150)))


class SeesRed:
    """A detector that boxes all red of a square, as far as the square shows it."""

    model = SimpleNamespace(NMS_IOU=0.5)

    def transform(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image)[..., 0] > 128

    def find(self, inputs: list[np.ndarray], sizes: Any, least: float) -> list[list[Found]]:
        (rows, columns) = np.nonzero(inputs[0])
        if not len(rows):
            return [[]]
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return [[Found(0, 0.9, [float(edge) for edge in box], None)]]


def test_what_is_cut_within_a_larger_overlap_is_found_once() -> None:
    """Squares of 400 pixels at 0, 200 and 400 share 200: the middle one has whole what the others cut to 150."""
    image = Image.new("RGB", (800, 400))
    image.paste((255, 0, 0), (250, 100, 600, 300))
    detector: Any = SeesRed()
    (found,) = find_in_tiles(detector, image, 400)
    assert found.box == [250, 100, 600, 300]
