"""Random crops: shares and shapes as asked for, and timm's for the same draws."""

from __future__ import annotations

import random

import pytest
import torch
from timm.data.transforms import RandomResizedCropAndInterpolation

from convnext.data.augment.random_crop import random_crop

SIZES = [(500, 375), (64, 64), (3, 200), (200, 3), (1, 1)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (1.0, 1.0)])
def test_the_crops_of_timm(width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    image = torch.empty(3, height, width)
    for seed in range(30):
        random.seed(seed)
        top, left, tall, wide = RandomResizedCropAndInterpolation.get_params(image, scale, ratio)
        after = random.random()
        random.seed(seed)
        box = random_crop(width, height, scale, ratio)
        assert box == (left, top, left + wide, top + tall, width, height)
        assert random.random() == after


def test_shares_and_shapes_are_those_asked_for() -> None:
    random.seed(0)
    boxes = [random_crop(1000, 1000, (0.25, 0.5), (0.5, 2.0)) for _ in range(500)]
    sizes = [(box.right - box.left, box.bottom - box.top) for box in boxes]
    shares = [wide * tall / 1e6 for wide, tall in sizes]
    ratios = [wide / tall for wide, tall in sizes]
    assert 0.249 < min(shares) < 0.26
    assert 0.49 < max(shares) < 0.501
    assert 0.49 < min(ratios) < 0.55
    assert 1.85 < max(ratios) < 2.02
    assert sum(wide < tall for wide, tall in sizes) == pytest.approx(250, abs=50)


def test_the_largest_in_the_middle_where_none_fits() -> None:
    assert random_crop(100, 10, (1.0, 1.0), (1.0, 1.0)) == (45, 0, 55, 10, 100, 10)
    assert random_crop(10, 100, (1.0, 1.0), (0.5, 2.0)) == (0, 40, 10, 60, 10, 100)
