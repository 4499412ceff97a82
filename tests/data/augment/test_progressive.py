"""Sizes of training images that grow."""

from __future__ import annotations

import pytest
import torch

from convnext.data.augment.progressive import growing_sides, resized, side_at


@pytest.mark.parametrize(
    ("size", "start", "stride", "sides"),
    [
        (128, 0.5, 32, [64, 96, 128]),
        (224, 0.5, 32, [128, 160, 224]),
        (384, 0.5, 32, [192, 288, 384]),
        (100, 0.5, 32, [64, 100]),  # half of it is rounded up to two strides, three quarters to the same
        (32, 0.5, 32, [32]),
        (32, 0.5, 8, [16, 24, 32]),
        (28, 0.25, 4, [8, 16, 28]),
        (128, 1.0, 32, [128]),
    ],
)
def test_sides_are_multiples_of_the_stride_and_end_with_the_whole(
    size: int, start: float, stride: int, sides: list[int]
) -> None:
    assert growing_sides(size, start, stride) == sides


def test_each_side_has_an_equal_part() -> None:
    sides = [side_at(step / 90, [64, 96, 128]) for step in range(91)]
    assert [sides.count(side) for side in (64, 96, 128)] == [30, 30, 31]
    assert sides == sorted(sides)


def test_images_shrink_by_averaging() -> None:
    images = torch.full((2, 3, 32, 32), 7.0)
    images[1, :, :, ::2] = 9.0
    small = resized(images, 16)
    assert small.shape == (2, 3, 16, 16)
    torch.testing.assert_close(small[0], torch.full((3, 16, 16), 7.0))
    torch.testing.assert_close(small[1, :, :, 2:-2], torch.full((3, 16, 12), 8.0), atol=0.3, rtol=0)  # no stripes
    assert resized(images, 32) is images
