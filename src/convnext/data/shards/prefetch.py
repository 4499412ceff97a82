"""Fetching shards before their turn, so that loading does not wait for the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from convnext.errors import InputError

AHEAD = 2
"""Shards fetched before their turn."""


class ReadAhead:
    """A thread that fetches what is needed next; inside a `with`.

    Args:
        shards: int `[N]`, the shard each of N images lies in.
        order: the images' positions, in the order they are read.
        fetch: brings a shard here; an `InputError` of it is left for whoever needs the shard.
    """

    def __init__(self, shards: np.ndarray, order: Sequence[int], fetch: Callable[[int], None]) -> None:
        numbers, first = np.unique(shards[np.asarray(order, dtype=np.int64)], return_index=True)
        turns = first.argsort()
        self._shards, self._first = numbers[turns].tolist(), first[turns]
        self._fetch = fetch
        self._begun = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def reached(self, place: int) -> None:
        """Images before `place` of the order are read, or asked for."""
        with self._changed:
            self._begun = int(np.searchsorted(self._first, place))
            self._changed.notify()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()  # what is being fetched comes to its end by itself

    def _run(self) -> None:
        for turn, shard in enumerate(self._shards):
            with self._changed:
                while not self._closed and turn >= self._begun + AHEAD:
                    self._changed.wait()
                if self._closed:
                    return
                if turn < self._begun:  # whoever needs it is fetching it
                    continue
            with suppress(InputError):  # whoever needs the shard fetches it again, and is told
                self._fetch(shard)
