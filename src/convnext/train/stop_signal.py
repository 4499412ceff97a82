"""Signals that tell a training to stop."""

from __future__ import annotations

import builtins
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from convnext.runtime.signals import STOP_SIGNALS


class Interruption(BaseException):
    """A signal to stop, raised where it came in; `whole` says that no step was half done there."""

    def __init__(self, signal: int, *, whole: bool) -> None:
        super().__init__(signal)
        self.signal, self.whole = signal, whole


class StopSignal:
    """Inside this context, a signal to stop is kept in `received` instead of ending the process; the second of them is
    an `Interruption`. `nohup` stays what it is. Outside the main thread, where Python has no handlers, and in a
    notebook, whose kernel has its own, nothing happens."""

    def __init__(self) -> None:
        self.received = 0
        self.raises = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and not in_notebook():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self.before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def receive(self, number: int, frame: FrameType | None) -> None:
        again, self.received = bool(self.received), number
        if again or self.raises:
            raise Interruption(number, whole=self.raises)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Make the first signal an `Interruption` inside this context, where no step is half done."""
        self.raises = True
        try:
            if self.received:
                raise Interruption(self.received, whole=True)
            yield
        finally:
            self.raises = False


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    shell = getattr(builtins, "get_ipython", None)  # which IPython puts there
    return shell is not None and getattr(shell(), "kernel", None) is not None


def agreed(received: list[int]) -> int:
    """The signal that all processes end with: they did not get the same at the same step, and one means more."""
    return signal.SIGUSR2 if signal.SIGUSR2 in received else max(received)
