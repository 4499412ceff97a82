"""Signals that end a program, and places that they must not leave half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""Signals to stop: schedulers send them before they take a machine away, terminals when they are closed."""
INTERRUPTING = (signal.SIGINT, *STOP_SIGNALS)
"""Signals to stop, and Ctrl-C."""


@contextmanager
def signals_wait() -> Iterator[None]:
    """A context in which signals to stop wait for its end, where it is the main thread's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    # None is a handler that Python knows nothing of.
    before = {n: handler for n in INTERRUPTING if (handler := signal.getsignal(n)) not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, lambda number, frame: received.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in received:
        signal.raise_signal(number)
