"""Fingerprints by which a resumed run knows its data."""

from __future__ import annotations

from convnext.data.fingerprint import difference, of_samples
from convnext.data.image_set import ImageSet

SAMPLES = ImageSet(("x", "y"), [0, 1, 0], False, ["data/a.png", "data/b.png", "data/c.png"])


def test_the_order_of_images_counts() -> None:
    """Batches are drawn by places: of a table that was sorted anew, a resumed epoch would repeat images."""
    then, now = of_samples("data", SAMPLES), of_samples("data", SAMPLES.take([2, 0, 1]))
    assert difference(then, of_samples("data", SAMPLES)) is None
    assert "another order" in str(difference(then, now))
    before = {key: value for key, value in then.items() if key != "order"}  # of a checkpoint of before
    assert difference(before, now) is None
    assert "labels of its images" in str(difference(before, of_samples("data", SAMPLES.take([0, 1, 1]))))
