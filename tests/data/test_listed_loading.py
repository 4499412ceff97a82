"""Batches of listed images: their places, what cannot be read, and one tensor where all are of one size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from convnext.data.images.whole_image import WholeImage
from convnext.data.listed_loading import listed_loader

SIZES = [(40, 40), (40, 40), (60, 40), (40, 50), (40, 40), (50, 60)]
BAD = 4


@pytest.fixture
def images(tmp_path: Path) -> list[tuple[str, Path]]:
    """Images in shades of their places, of which one cannot be read."""
    for place, size in enumerate(SIZES):
        Image.new("RGB", size, (40 * place,) * 3).save(tmp_path / f"{place}.png")
    (tmp_path / f"{BAD}.png").write_bytes(b"")
    return [(f"image {place}", tmp_path / f"{place}.png") for place in range(len(SIZES))]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches(workers: int, images: list[tuple[str, Path]]) -> None:
    how = WholeImage(40, 100)
    first, second, third = listed_loader(images, how, batch_size=2, workers=workers)
    assert isinstance(first.inputs, Tensor)
    assert first.inputs.shape == (2, 3, 40, 40)
    assert [tuple(image.shape) for image in second.inputs] == [(3, 40, 60), (3, 50, 40)]
    assert isinstance(third.inputs, Tensor)
    assert third.inputs.shape == (1, 3, 48, 40)
    assert [list(batch.places) for batch in (first, second, third)] == [[0, 1], [2, 3], [5]]
    assert [len(batch.unreadable) for batch in (first, second, third)] == [0, 0, 1]
    assert f"{BAD}.png" in third.unreadable[0][1]
    for batch in (first, second, third):
        for place, image in zip(batch.places, batch.inputs, strict=True):
            torch.testing.assert_close(image, how(Image.open(images[place][1])))
