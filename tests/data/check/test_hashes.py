"""Perceptual hashes, against SciPy's transform of the images themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from convnext.data.check.hashes import BITS, SIDE, WINDOWS, distances, hashes_of, mirrored, transform


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    """A smooth random picture, uint8 `[side, side]`."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), side / 16)
    return np.rint(127 + 100 * noise / np.abs(noise).max()).astype(np.uint8)


def test_frequencies_are_those_of_the_cosine_transform() -> None:
    """Up to a factor: the first two, and the mixed one after them, for which SciPy's has another."""
    ours, theirs = transform(picture(0))[0, :3], dctn(picture(0).astype(float), norm="ortho")
    expected = np.array([theirs[0, 1], theirs[1, 0], theirs[1, 1] * np.sqrt(0.5)])
    np.testing.assert_allclose(ours / ours[0], expected / expected[0], rtol=1e-2)


@pytest.mark.parametrize("number", [1, 20, len(WINDOWS) - 1])
def test_a_window_has_the_hash_of_its_crop(number: int) -> None:
    large = picture(1, 640)
    small = large.reshape(SIDE, 10, SIDE, 10).mean((1, 3))
    left, right, top, bottom = np.rint(640 * WINDOWS[number]).astype(int)
    crop = large[top:bottom, left:right]
    rows, columns = (np.minimum(np.arange(640) * size // 640, size - 1) for size in crop.shape)
    shrunk = crop[rows][:, columns].reshape(SIDE, 10, SIDE, 10).mean((1, 3))
    inside, cropped = hashes_of(transform(small)[number]), hashes_of(transform(shrunk)[0])
    assert distances(inside, cropped) <= 3
    assert distances(inside, hashes_of(transform(small)[0])) > 3


def test_the_mirrored_hash_is_that_of_the_mirrored_picture() -> None:
    upright = transform(picture(2))
    np.testing.assert_allclose(transform(picture(2)[:, ::-1])[0], mirrored(upright[0]), atol=1e-3)
    assert distances(hashes_of(upright[0]), hashes_of(mirrored(upright[0]))) > 10


def test_distances_count_bits() -> None:
    signs = np.ones((2, BITS))
    signs[1, [0, 5, 63]] = -1
    first, second = hashes_of(signs)
    assert (first, distances(first, second)) == (np.uint64(2**64 - 1), 3)
    assert second == np.uint64(2**64 - 1 - 2**63 - 2**58 - 1)


def test_distances_without_a_count_of_bits_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(0).integers(0, 2**63, (2, 5, 3)).astype(np.uint64)
    with_it = distances(first, second)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert (distances(first, second) == with_it).all()
    assert with_it.shape == (5, 3)
