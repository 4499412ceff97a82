"""Drawings of known objects and label maps, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from convnext.inference.depth import draw_depths
from convnext.inference.draw import OPACITY, Drawn, colours, draw_labels, draw_objects

GREY = (100, 110, 120)
IMAGE = Image.new("RGB", (200, 150), GREY)


def mixed(colour: tuple[int, int, int] | np.ndarray) -> list[int]:
    """Grey under a colour."""
    return ((1 - OPACITY) * np.array(GREY) + OPACITY * np.array(colour)).astype(np.uint8).tolist()


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((150, 200), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_colours_are_bright_and_far_apart() -> None:
    found = np.array(colours(20))
    assert found.shape == (20, 3)
    assert (found.max(1) == 255).all()
    assert np.abs(np.diff(found, axis=0)).max(1).min() > 100
    assert colours(5) == colours(20)[:5]


def test_masks_boxes_and_names() -> None:
    first, second = colours(2)
    mask = rectangle(30, 40, 80, 90)
    objects = [Drawn("cat", 0.987, [30, 40, 79, 89], mask), Drawn("dog", None, [120, 60, 180, 140], None)]
    drawn = draw_objects(IMAGE, objects)
    pixels = np.asarray(drawn)
    assert drawn.size == IMAGE.size
    assert np.asarray(IMAGE)[60, 60].tolist() == list(GREY)  # itself unchanged
    assert pixels[60, 50].tolist() == mixed(first)
    assert pixels[100, 150].tolist() == list(GREY)
    for x, y in ((30, 60), (79, 60), (50, 40), (50, 89)):
        assert pixels[y, x].tolist() == list(first)
    for x, y in ((120, 100), (180, 100), (150, 60), (150, 140)):
        assert pixels[y, x].tolist() == list(second)
    above = pixels[28:39, 30:60].reshape(-1, 3).tolist()  # the name's ground, in the object's colour, and black letters
    assert above.count(list(first)) > 0.3 * len(above)
    assert min(sum(pixel) for pixel in above) < 60
    assert pixels[5, 5].tolist() == list(GREY)


def test_a_score_is_part_of_the_name() -> None:
    box = [60.0, 60, 150, 120]
    plain, scored = (np.asarray(draw_objects(IMAGE, [Drawn("cat", score, box, None)])) for score in (None, 0.5))
    width = [(pixels[50] == colours(1)[0]).all(1).sum() for pixels in (plain, scored)]
    assert 0 < width[0] < width[1]


@pytest.mark.parametrize(("side", "width"), [(200, 1), (1500, 3)])
def test_lines_are_as_wide_as_the_image_needs(side: int, width: int) -> None:
    """A five-hundredth of the longer side, a pixel at least."""
    box = [side * 0.25, side * 0.25, side * 0.75, side * 0.75]
    drawn = draw_objects(Image.new("RGB", (side, side), GREY), [Drawn("cat", None, box, None)])
    row = np.asarray(drawn)[side // 2]
    assert (row == colours(1)[0]).all(1).sum() == 2 * width


def test_a_box_at_the_top_has_its_name_inside_the_picture() -> None:
    pixels = np.asarray(draw_objects(IMAGE, [Drawn("cat", 0.5, [60, 0, 150, 60], None)]))
    name = pixels[1:10, 61:90].reshape(-1, 3).tolist()
    assert name.count(list(colours(1)[0])) > 0.3 * len(name)


def test_masks_are_filled_to_the_pixel() -> None:
    mask = rectangle(30, 60, 80, 90)
    pixels = np.asarray(draw_objects(IMAGE, [Drawn("cat", 0.9, [0, 15, 199, 149], mask)]))  # the box lies far from it
    assert (pixels[mask] == mixed(colours(1)[0])).all()
    about = rectangle(25, 50, 85, 95) & ~mask
    assert (pixels[about] == GREY).all()


def test_overlapping_masks_mix() -> None:
    first, second = colours(2)
    objects = [Drawn(str(i), None, [0, 0, 9, 9], rectangle(20 * i, 50, 60, 90)) for i in range(2)]
    pixels = np.asarray(draw_objects(IMAGE, objects))
    assert pixels[70, 10].tolist() == mixed(first)
    both = (1 - OPACITY) * np.array(mixed(first)) + OPACITY * np.array(second)
    assert pixels[70, 50].tolist() == both.astype(np.uint8).tolist()


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.uint16])
def test_label_maps_lie_over_the_image(kind: type) -> None:
    """What is no class has no colour, and a legend below names what is there."""
    palette = colours(3)
    labels = np.full((150, 200), 2, dtype=kind)
    labels[:40, :50] = 0
    labels[100:] = -1 if kind is np.int64 else 255
    drawn = np.asarray(draw_labels(IMAGE, labels, ["sky", "sea", "land"]))
    assert drawn.shape[0] > 150
    assert drawn.shape[1] == 200
    assert (drawn[:40, :50] == mixed(palette[0])).all()
    assert (drawn[40:100] == mixed(palette[2])).all()
    assert (drawn[100:150] == GREY).all()
    legend = drawn[150:].reshape(-1, 3).tolist()
    counts = [legend.count(list(colour)) for colour in palette]
    assert counts[1] == 0  # the sea is not there
    assert counts[0] == counts[2] > 50
    columns = [int((drawn[150:] == palette[i]).all(2).any(0).argmax()) for i in (0, 2)]
    assert columns[1] < columns[0]  # the largest first


@pytest.mark.parametrize(("width", "height", "size"), [(200, 150, 10), (300, 800, 20)])
def test_a_legend_starts_half_a_letter_from_the_corner(width: int, height: int, size: int) -> None:
    """Letters are a fortieth of the longer side, ten pixels at least."""
    drawn = draw_labels(Image.new("RGB", (width, height)), np.zeros((height, width), np.uint8), ["sky"])
    square = (np.asarray(drawn)[height:] == colours(1)[0]).all(2)
    rows, columns = np.flatnonzero(square.any(1)), np.flatnonzero(square.any(0))
    assert (rows[0], columns[0]) == (size // 2, size // 2)
    assert (rows[-1] - rows[0], columns[-1] - columns[0]) == (size, size)
    assert drawn.size == (width, height + size // 2 + 2 * size)


def test_a_long_legend_has_several_lines() -> None:
    labels = (np.arange(150 * 200).reshape(150, 200) // 200 // 25).astype(np.uint8)
    names = [f"a class of a long name {i}" for i in range(6)]
    drawn = np.asarray(draw_labels(IMAGE, labels, names))
    rows = [int((drawn[150:] == colour).all(2).any(1).argmax()) for colour in colours(6)]
    assert rows == sorted(set(rows))
    assert drawn.shape[0] > 150 + rows[-1] + 10


def test_near_depths_are_bright() -> None:
    depths = np.array([[1.0, 2.0], [3.0, 4.0]])
    pixels = np.asarray(draw_depths(depths)).sum(2).astype(int)
    assert pixels[0, 0] > pixels[0, 1] > pixels[1, 0] > pixels[1, 1]
    assert np.asarray(draw_depths(np.full((3, 4), 7.0))).shape == (3, 4, 3)
