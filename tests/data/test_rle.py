"""Outlines drawn as masks, wherever a stranger's points lie."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from faster_coco_eval.core import mask as codes
from PIL import Image, ImageDraw

from convnext.data.rle import bounded, to_masks


def test_points_near_the_image_are_left_as_they_are() -> None:
    polygon = [-20.0, -5.0, 59.0, 3.0, 30.0, 39.0]
    assert bounded(polygon, 30, 20) == polygon


@pytest.mark.parametrize("seed", range(20))
def test_inside_the_image_a_polygon_is_the_same(seed: int) -> None:
    """Against the code's own drawing of the whole polygon, but for rounding at its edges."""
    random = np.random.default_rng(seed)
    polygon = random.normal(20, 400, 2 * random.integers(3, 9)).tolist()
    whole = codes.decode(codes.merge(codes.frPyObjects([polygon], 40, 40)))
    (drawn,) = to_masks([[polygon]], 40, 40).numpy()
    assert (drawn != whole).mean() < 0.02


def test_points_far_away_cost_nothing() -> None:
    """Forty points took 3.5 GB."""
    random = np.random.default_rng(0)
    polygon = (random.choice([-1, 1], 200) * 999_999.0).tolist()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert to_masks([[polygon]], 64, 48).shape == (1, 48, 64)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_an_outline_beyond_the_image_is_empty() -> None:
    assert not to_masks([[[500.0, 500.0, 600.0, 500.0, 550.0, 600.0]]], 40, 40).any()
    everything = to_masks([[[-1e5, -1e5, 1e5, -1e5, 1e5, 1e5, -1e5, 1e5]]], 40, 40)
    assert everything.all()
    image = Image.new("1", (40, 40))
    ImageDraw.Draw(image).rectangle((0, 0, 19, 39), fill=1)
    half = to_masks([[[-1e5, -1e5, 20.0, -1e5, 20.0, 1e5, -1e5, 1e5]]], 40, 40)[0].numpy()
    assert np.array_equal(half, np.asarray(image))
