"""Samples open their images, from files and from memory."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.data.image_set import ImageSet
from convnext.errors import ImageError


def test_open_reads_files(tmp_path: Path):
    Image.new("RGB", (3, 2), (9, 9, 9)).save(tmp_path / "a.png")
    samples = ImageSet(("x", "y"), [1, 0], False, [str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    assert samples.open(0, "L").getpixel((0, 0)) == 9
    with pytest.raises(ImageError, match=r"b\.png: cannot be opened"):
        samples.open(1, "RGB")


def test_open_reads_memory():
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    samples = ImageSet(("x", "y"), [1, 0], False, ["m/0", "m/1"], images)
    assert samples.open(1, "RGB").getpixel((1, 1)) == (7, 7, 7)
    assert len(samples) == 2


@pytest.mark.parametrize("count", [1, 4, 6, 12, 99])
def test_of_classes_that_alternate_all_are_spread_over(count: int):
    samples = ImageSet(("x", "y", "z"), [0, 1, 2] * 4, False, [f"{place}.png" for place in range(12)])
    some = samples.spread(count)
    assert len(some) <= count
    assert set(some.targets) == ({0, 1, 2} if count > 2 else {0})
    numbers = [int(Path(source).stem) for source in some.sources]
    assert numbers == sorted(numbers)


def test_images_whose_classes_follow_each_other_are_evenly_spaced():
    samples = ImageSet(("x", "y"), [0] * 6 + [1] * 6, False, [f"{place}.png" for place in range(12)])
    assert samples.spread(4).sources == ["0.png", "3.png", "6.png", "9.png"]
