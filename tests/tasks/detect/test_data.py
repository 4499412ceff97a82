"""Augmentation moves boxes and masks with the pixels; batches are of one shape, and the same on every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torchvision.ops import masks_to_boxes
from vacuous import nonempty

from convnext.data.augment.window import Window, random_part
from convnext.data.images.whole_image import WholeImage, fit_size
from convnext.data.problems import Problems
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.data.sources.coco import read_coco
from convnext.errors import ImageError
from convnext.tasks.detect import data as annotated
from convnext.tasks.detect.data import (
    DetectionTransform,
    crop_with_objects,
    detection_eval_loader,
    detection_train_loader,
    flip,
    jitter,
    open_annotated,
)

JITTER = DetectionTransform((160,), 400, (0.3, 2.0), hflip=0.5, vflip=0.5, colour=0.2, masks=True)


@pytest.fixture(scope="module")
def coco(real_images: Path) -> DetectionSet:
    return read_coco(real_images / "coco100" / "train.json", real_images / "coco100" / "train", Problems())


def marked(tmp_path: Path, *squares: tuple[int, int, int, int], size: tuple[int, int] = (90, 60)) -> AnnotatedImage:
    """An image, black but for white rectangles, each annotated."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    annotations = []
    for n, (x0, y0, x1, y1) in enumerate(squares):
        pixels[y0:y1, x0:x1] = 255
        polygon = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        annotations.append(Annotation(n, (x0, y0, x1, y1), polygon, False, 1.0))
    Image.fromarray(pixels).save(tmp_path / "marked.png")
    return AnnotatedImage(1, tmp_path / "marked.png", "marked.png", *size, tuple(annotations))


def test_boxes_and_masks_lie_where_the_pixels_do(tmp_path: Path) -> None:
    image = marked(tmp_path, (10, 20, 40, 50))
    transform = replace(JITTER, colour=0.0)
    found = 0
    for seed in range(60):
        torch.manual_seed(seed)
        pixels, objects = transform(open_annotated(image), image)
        white = pixels[0] > 0  # half of white, once normalised
        if not len(objects.boxes) or white.sum() < 200:
            continue
        found += 1
        expected = masks_to_boxes(white[None])[0] + torch.tensor([0, 0, 1, 1])
        assert (objects.boxes[0] - expected).abs().max() <= 1
        assert (objects.masks[0].bool() ^ white).sum() <= 2 * sum(white.shape)
    assert found > 30


def test_boxes_are_those_of_their_masks_on_real_images(coco: DetectionSet) -> None:
    for index in range(0, len(coco), 10):
        torch.manual_seed(index)
        pixels, objects = JITTER(open_annotated(coco.images[index]), coco.images[index])
        assert max(pixels.shape[1:]) <= 160
        assert objects.masks.shape[1:] == pixels.shape[1:]
        if len(objects.boxes):
            boxes = masks_to_boxes(objects.masks) + torch.tensor([0, 0, 1, 1])
            assert torch.equal(boxes, objects.boxes)


def test_without_masks_boxes_move_likewise(tmp_path: Path) -> None:
    image = marked(tmp_path, (10, 20, 40, 50), (60, 5, 80, 25))
    window = Window(10, 5, 40, 60, (80, 90))
    _pixels, masked = crop_with_objects(open_annotated(image), image, window, masks=True)
    _, boxes = crop_with_objects(open_annotated(image), image, window, masks=False)
    assert (masked.boxes - boxes.boxes).abs().max() <= 1
    assert boxes.masks.shape == (0, 80, 90)
    _, outside = crop_with_objects(open_annotated(image), image, Window(55, 0, 5, 5, (5, 5)), masks=False)
    assert len(outside.boxes) == 0


def test_masks_decoded_a_few_at_a_time_are_the_same(coco: DetectionSet, monkeypatch: pytest.MonkeyPatch) -> None:
    image = max(coco.images, key=lambda image: len(image.annotations))
    window = Window(5, 5, image.height - 9, image.width - 7, (90, 120))
    _, together = crop_with_objects(open_annotated(image), image, window, masks=True)
    monkeypatch.setattr(annotated, "DECODED", 2 * image.width * image.height)
    _, apart = crop_with_objects(open_annotated(image), image, window, masks=True)
    assert len(together.masks) > 2
    assert torch.equal(together.masks, apart.masks)


@pytest.mark.parametrize("axis", [1, 2])
def test_flipping_twice_changes_nothing(tmp_path: Path, axis: int) -> None:
    image = marked(tmp_path, (10, 20, 40, 50))
    pixels, objects = crop_with_objects(open_annotated(image), image, Window(0, 0, 60, 90, (60, 90)), masks=True)
    once = flip(pixels, objects, axis)
    assert not torch.equal(once[1].boxes, objects.boxes)
    twice = flip(*once, axis)
    assert torch.equal(twice[0], pixels)
    for a, b in nonempty(zip(twice[1], objects, strict=True)):
        assert torch.equal(a, b)


def test_jitter_stays_in_the_image_and_the_square() -> None:
    for seed in range(300):
        torch.manual_seed(seed)
        height, width = (int(n) for n in torch.randint(1, 700, (2,)))
        window = jitter(height, width, 128, (0.1, 2.0))
        assert window.top >= 0
        assert window.top + window.height <= height
        assert window.left >= 0
        assert window.left + window.width <= width
        assert all(1 <= side <= 128 for side in nonempty(window.size))


def test_random_parts_are_as_large_as_published() -> None:
    """DETR's: sides of 384 to 600 pixels where an image's short side is 400, 500 or 600, then scaled as a whole one."""
    sides = set()
    for seed in range(200):
        torch.manual_seed(seed)
        window = random_part(1000, 2000, short=480, long=1333)
        assert window.top >= 0
        assert window.top + window.height <= 1000
        assert window.left >= 0
        assert window.left + window.width <= 2000
        assert window.size == fit_size(window.height, window.width, 480, 1333)
        sides |= {window.height, window.width}
    assert 384 * 1000 / 600 - 1 <= min(sides) < 700  # of the image itself, whose short side is 1000
    assert 1300 < max(sides) <= 600 * 1000 / 400
    assert random_part(40, 30, short=480, long=1333).height <= 40  # not above the image


@pytest.mark.parametrize(("part", "least", "most"), [(0.0, 0, 0), (0.5, 35, 65), (1.0, 90, 100)])
def test_parts_are_taken_as_often_as_told(tmp_path: Path, part: float, least: int, most: int) -> None:
    image = marked(tmp_path, (0, 0, 900, 600), size=(900, 600))
    whole = fit_size(600, 900, 480, 1333)
    transform = DetectionTransform((480,), 1333, None, hflip=0.0, vflip=0.0, colour=0.0, masks=False, part=part)
    taken = 0
    for seed in range(100):
        torch.manual_seed(seed)
        pixels, objects = transform(open_annotated(image), image)
        height, width = pixels.shape[1:]
        torch.testing.assert_close(objects.boxes, torch.tensor([[0.0, 0.0, width, height]]))  # it covers every part
        taken += (height, width) != whole
    assert least <= taken <= most


def test_sizes_of_whole_images() -> None:
    assert fit_size(480, 640, 800, 1333) == (800, 1067)
    assert fit_size(200, 1000, 800, 1333) == (267, 1333)
    assert fit_size(3, 3000, 800, 1333) == (1, 1333)


def test_crowds_are_no_objects(tmp_path: Path) -> None:
    image = marked(tmp_path, (10, 20, 40, 50), (60, 5, 80, 25))
    image = replace(image, annotations=(replace(image.annotations[0], crowd=True), image.annotations[1]))
    _, objects = crop_with_objects(open_annotated(image), image, Window(0, 0, 60, 90, (60, 90)), masks=True)
    assert objects.labels.tolist() == [1]


def test_batches_are_of_one_shape_and_the_same_again(coco: DetectionSet) -> None:
    def epoch(number: int, workers: int = 0) -> list[list[int]]:
        loader = detection_train_loader(coco, JITTER, batch_size=4, workers=workers, seed=0)
        loader.set_epoch(number)
        return [batch.indices for batch in loader]

    first = epoch(0)
    assert first == epoch(0, workers=2)
    assert first != epoch(1)
    seen = [index for batch in first for index in batch]
    assert len(set(seen)) == len(seen)
    shapes = [{coco.images[i].width >= coco.images[i].height for i in batch} for batch in first]
    assert sum(len(shape) > 1 for shape in shapes) <= 1


def test_images_without_objects_are_in_the_batches_too(tmp_path: Path) -> None:
    image = marked(tmp_path, (10, 20, 40, 50))
    data = DetectionSet(("a",), (1,), (image, replace(image, annotations=())))
    (batch,) = detection_train_loader(data, JITTER, batch_size=2, workers=0, seed=0)
    assert sorted(batch.indices) == [0, 1]
    (empty,) = [each for index, each in zip(batch.indices, batch.objects, strict=True) if index]
    assert (len(empty.boxes), len(empty.labels), len(empty.masks)) == (0, 0, 0)


def test_an_image_of_another_size_is_unreadable(tmp_path: Path) -> None:
    image = replace(marked(tmp_path, (10, 20, 40, 50)), width=60, height=90)
    with pytest.raises(ImageError, match="90×60 pixels, where its annotations are for 60×90"):
        open_annotated(image)
    data = DetectionSet(("a",), (1,), (image,))
    (batch,) = detection_eval_loader(data, WholeImage(64, 64), batch_size=2, workers=0)
    assert batch.images == []
    assert len(batch.unreadable) == 1


def turned(path: Path, orientation: int) -> None:
    """An image of 90×60 stored pixels, red at the left, with EXIF that says how it lies."""
    pixels = np.zeros((60, 90, 3), dtype=np.uint8)
    pixels[:, :30, 0] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_made_on_stored_pixels_are_known_by_the_sizes(orientation: int, tmp_path: Path) -> None:
    turned(tmp_path / "a.png", orientation)
    stored = open_annotated(AnnotatedImage(1, tmp_path / "a.png", "a.png", 90, 60, ()))
    assert stored.size == (90, 60)
    assert stored.getpixel((5, 30)) == (255, 0, 0)
    upright = open_annotated(AnnotatedImage(1, tmp_path / "a.png", "a.png", 60, 90, ()))
    assert upright.size == (60, 90)
    with pytest.raises(ImageError, match="where its annotations are for 50×50"):
        open_annotated(AnnotatedImage(1, tmp_path / "a.png", "a.png", 50, 50, ()))
