"""Whether 16-bit images use the range that they are read by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from convnext.data.image_set import ImageSet
from convnext.data.images.decode import decode_image, read_bytes, stored_mode
from convnext.errors import ImageError

FILES_READ = 32
"""Images of a set that are looked at, spread over it."""
NARROW = 4
"""Images that use at most one part in so many of the range are nearly black."""

log = logging.getLogger("convnext")


def brightest(readers: Iterable[Callable[[], bytes]]) -> int | None:
    """The largest value in the 16-bit images among files, each given by what reads it; None where there are none."""
    found = []
    for read in readers:
        try:
            content = read()
            if stored_mode(content).startswith("I"):
                found.append(int(np.asarray(decode_image(content, None, name="")).max()))
        except ImageError:  # said when it is read
            continue
    return max(found, default=None)


def say_if_narrow(samples: ImageSet, white: int) -> None:
    """Warn where 16-bit images use at most a quarter of 0 to `white`."""
    few = samples.spread(FILES_READ)
    if few.images is None:
        _say([partial(few.content, i) for i in range(len(few))], white)


def say_if_files_narrow(files: Sequence[Path], white: int) -> None:
    """Warn where 16-bit image files use at most a quarter of 0 to `white`."""
    _say([partial(read_bytes, file) for file in files[:: -(-len(files) // FILES_READ) or 1]], white)


def _say(readers: list[Callable[[], bytes]], white: int) -> None:
    most = brightest(readers)
    if most is not None and most * NARROW <= white + 1:
        wanted = 2 ** max(most, 1).bit_length() - 1
        log.warning(
            "the 16-bit images hold values up to %d, and are read as if %d were white: --white %d reads them brighter",
            most,
            white,
            wanted,
        )
