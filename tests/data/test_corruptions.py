"""Corruptions of images: the package's own, with numbers that depend on the image alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext import ImageError
from convnext.data.corruptions import ALL, COMMON, Corruption, corrupted, seen_through
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.images.whole_image import WholeImage


def picture(width: int = 70, height: int = 50, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", ALL)
def test_the_same_bits_whatever_was_drawn_before(name: str) -> None:
    corruption = Corruption(name, 3)
    np.random.seed(1)
    first = np.asarray(corruption(picture()))
    np.random.seed(2)
    corruption(picture(seed=1))
    state = np.random.get_state()[1].tolist()
    again = np.asarray(corruption(picture()))
    assert np.random.get_state()[1].tolist() == state  # what others draw is left alone
    np.testing.assert_array_equal(first, again)
    assert first.shape == (50, 70, 3)
    assert (first != np.asarray(picture())).any()


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "glass_blur", "motion_blur", "frost", "fog"])
def test_images_corruptions_and_severities_are_drawn_apart(name: str) -> None:
    """Two images of nearly the same pixels do not get the same noise."""
    image, other = picture(), picture()
    other.putpixel((0, 0), (0, 0, 1))
    noise, near = np.asarray(Corruption(name, 5)(image)), np.asarray(Corruption(name, 5)(other))
    assert (noise != near).mean() > 0.3


def test_they_are_the_packages() -> None:
    """Those that draw nothing, against a plain call."""
    import imagecorruptions

    pixels = np.asarray(picture())
    for name in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "saturate"):
        expected = imagecorruptions.corrupt(pixels, severity=4, corruption_name=name)
        np.testing.assert_array_equal(corrupted(picture(), name, 4, 7), expected)
    assert imagecorruptions.get_corruption_names("common") == list(COMMON)
    assert imagecorruptions.get_corruption_names("all") == list(ALL)


def test_images_are_resized_first_and_keep_their_mode() -> None:
    assert Corruption("contrast", 1, short=64)(picture(200, 100)).size == (128, 64)
    grey = Corruption("gaussian_noise", 1)(picture().convert("L"))
    assert (grey.mode, grey.size) == ("L", (70, 50))


def test_a_small_image_cannot_be_corrupted() -> None:
    with pytest.raises(ImageError, match="20×50 pixels is too small"):
        Corruption("fog", 1)(picture(20, 50))
    assert Corruption("fog", 1, short=32)(picture(20, 50)).size == (32, 80)


def test_kept_images_are_the_same(tmp_path: Path) -> None:
    kept, fresh = Corruption("snow", 2, 40, tmp_path), Corruption("snow", 2, 40)
    made = np.asarray(kept(picture()))
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(made, np.asarray(kept(picture())))
    np.testing.assert_array_equal(made, np.asarray(fresh(picture())))


@pytest.mark.parametrize("transform", [Preprocessing.standard(48), WholeImage(40, 80)])
def test_a_network_sees_the_corrupted_image(transform: Preprocessing | WholeImage) -> None:
    corruption = Corruption("contrast", 5)
    seen = seen_through(transform, corruption)
    assert isinstance(seen, type(transform))
    np.testing.assert_array_equal(seen(picture()).numpy(), transform(corruption(picture())).numpy())
