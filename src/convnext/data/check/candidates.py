"""Pairs of images that may be copies, found without comparing all pairs.

The windows of all images are sorted by their hashes, whose first bits are the steadiest. A whole image is looked up,
upright and mirrored, by as many first bits as divide the windows finely, and by all variants of them in which some of
the least certain bits, whose frequencies are nearly 0, are changed. It meets the images it may be a crop of, or all of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from convnext.data.check.hashes import BITS, WINDOWS, distances, hashes_of, mirrored

MOST_BITS = 11
"""Bits of 64 in which the hashes of a crop and of the window nearest to it differ at most."""
UNCERTAIN = 6
"""Bits that may be changed to look a hash up."""
MOST_COMPARED = 256
"""Windows that are compared at most for one look-up, those of the nearest hashes: a thousand frames of a camera that
does not move need not each be compared with all."""
_CHUNK = 256


class Candidates(NamedTuple):
    """Pairs that may be copies: `[n]` each.

    Fields:
        crop: place of the image that may be a crop of the other, or all of it.
        whole: place of the other.
        window: that of the other which it may be.
        mirror: whether it is mirrored.
    """

    crop: np.ndarray
    whole: np.ndarray
    window: np.ndarray
    mirror: np.ndarray


def find_candidates(hashes: np.ndarray, frequencies: np.ndarray) -> Iterator[tuple[int, Candidates]]:
    """Pairs among N images, a part after another, each with the number of images that have been looked up.

    Args:
        hashes: of all windows of each image, uint64 `[N, 65]`.
        frequencies: of the whole images, `[N, 64]`.
    """
    count = len(hashes)
    if count < 2:
        return
    order = np.argsort(hashes, axis=None, kind="stable")
    table = hashes.ravel()[order]
    bits = int(np.clip(np.log2(len(table)), 12, 28))
    spread = frequencies.astype(np.float32).std(0) + 1e-6
    for start in range(0, count, _CHUNK):
        found = []
        for mirror in (False, True):
            own = frequencies[start : start + _CHUNK].astype(np.float32)
            own = mirrored(own) if mirror else own
            found.append(_look_up(own, start, mirror, order, table, bits, spread))
        yield min(start + _CHUNK, count), Candidates(*map(np.concatenate, zip(*found, strict=True)))


def _look_up(
    own: np.ndarray, start: int, mirror: bool, order: np.ndarray, table: np.ndarray, bits: int, spread: np.ndarray
) -> Candidates:
    """The candidates of images from place `start` on, whose frequencies are `own` `[n, 64]`."""
    hashes = hashes_of(own)
    keys = hashes[:, None] ^ _variants(own[:, :bits] / spread[:bits])
    low_bits = np.uint64(2 ** (BITS - bits) - 1)
    first = np.searchsorted(table, keys & ~low_bits, side="left")
    last = np.searchsorted(table, keys | low_bits, side="right")
    middle = np.searchsorted(table, keys)
    first, last = np.maximum(first, middle - MOST_COMPARED // 2), np.minimum(last, middle + MOST_COMPARED // 2)
    lengths = (last - first).ravel()
    queries = np.repeat(np.repeat(np.arange(len(own)), keys.shape[1]), lengths)
    ends = np.cumsum(lengths)
    at = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + np.repeat(first.ravel(), lengths)
    near = distances(hashes[queries], table[at])
    kept = near <= MOST_BITS
    queries, at, near = queries[kept], at[kept], near[kept]
    wholes, windows = np.divmod(order[at], len(WINDOWS))
    # Of the windows of one image the nearest; a whole image meets another's only once, and itself never.
    by = np.lexsort((windows, near, wholes, queries))
    queries, wholes, windows = queries[by], wholes[by], windows[by]
    new = np.ones(len(by), bool)
    new[1:] = (np.diff(queries) != 0) | (np.diff(wholes) != 0)
    new &= wholes != queries + start
    queries, wholes, windows = queries[new], wholes[new], windows[new]
    return Candidates(queries + start, wholes, windows, np.full(len(queries), mirror))


def _variants(frequencies: np.ndarray) -> np.ndarray:
    """Bits to change in each hash, `[n, 64]`: all choices among the bits that are least certain."""
    unsure = np.argsort(np.abs(frequencies), axis=1)[:, :UNCERTAIN]
    bit = np.left_shift(np.uint64(1), (BITS - 1 - unsure).astype(np.uint64))
    chosen = (np.arange(2**UNCERTAIN)[:, None] >> np.arange(UNCERTAIN)) & 1
    return (bit[:, None] * chosen.astype(np.uint64)).sum(2, dtype=np.uint64)
