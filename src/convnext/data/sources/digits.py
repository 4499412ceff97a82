"""The digits that come with scikit-learn: 1,797 grey images of 8×8 pixels, ten classes."""

from __future__ import annotations

import numpy as np

from convnext.data.sources.records import DataListing, ImageRecord
from convnext.data.splits import hash_fraction


def read_digits() -> DataListing:
    """The embedded digits, values 0..16 scaled to 0..255; of each class the fifth with the lowest hashes is "val"."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    sources = [f"digits/{index:04d}" for index in range(len(digits.target))]
    parts = ["train"] * len(sources)
    for label in range(10):
        members = sorted(np.flatnonzero(digits.target == label), key=lambda index: hash_fraction(sources[index]))
        for index in members[: round(len(members) / 5)]:
            parts[index] = "val"
    labels = ((str(label),) for label in digits.target)
    entries = [ImageRecord(*row) for row in zip(sources, labels, parts, sources, strict=True)]
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return DataListing(entries, tuple(str(label) for label in range(10)), images)
