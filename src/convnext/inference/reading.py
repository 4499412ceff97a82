"""Images read and prepared by threads while a network computes: in their order, and a bounded number ahead."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from PIL import Image

from convnext.cores import usable_cores
from convnext.errors import ImageError

BATCH = 16
"""Images that go through a network together."""

Prepared = TypeVar("Prepared")
"""Type of a prepared image: a tensor, or a tensor and the image's size."""


@contextmanager
def read_ahead(
    images: Iterable[Any],
    read: Callable[[Any], Image.Image],
    prepare: Callable[[Image.Image], Prepared],
    *,
    ahead: int = 0,
) -> Iterator[Iterator[Prepared | ImageError]]:
    """Inside, an iterator over what `prepare` makes of the images that `read` reads, or the `ImageError` of one.

    `ahead` images, at least one a core, are prepared before their turn; no others are held. Other exceptions are
    raised when their image's turn comes. No thread is left behind, however the block ends.
    """
    pool = ThreadPoolExecutor(len(usable_cores()), "convnext-read", _compute_alone)
    try:
        yield _in_order(pool, images, read, prepare, max(ahead, len(usable_cores())))
    finally:
        pool.shutdown(cancel_futures=True)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(torch.get_num_threads())  # new threads of the process take what was set last


def _in_order(
    pool: ThreadPoolExecutor,
    images: Iterable[Any],
    read: Callable[[Any], Image.Image],
    prepare: Callable[[Image.Image], Prepared],
    ahead: int,
) -> Iterator[Prepared | ImageError]:
    waiting: deque[Future[Prepared | ImageError]] = deque()
    for image in images:
        # Two of these may be one, or read from one file, and are not made for threads.
        shared = isinstance(image, Image.Image) or hasattr(image, "read")
        content = _read_now(read, image) if shared else partial(read, image)
        waiting.append(pool.submit(_prepare, content, prepare))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read_now(read: Callable[[Any], Image.Image], image: Any) -> Callable[[], Image.Image]:
    """An image that is read here, and returned by a call, which raises what went wrong."""
    done: Future[Image.Image] = Future()
    try:
        done.set_result(read(image))
    except Exception as error:  # raised again when the image's turn comes
        done.set_exception(error)
    return done.result


def _prepare(content: Callable[[], Image.Image], prepare: Callable[[Image.Image], Prepared]) -> Prepared | ImageError:
    try:
        return prepare(content())
    except ImageError as error:
        return error


def _compute_alone() -> None:
    """Let torch's operators start no threads in this one: there is one a core already."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
