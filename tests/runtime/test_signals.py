"""Places that signals to stop do not leave half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from convnext.runtime.signals import INTERRUPTING, signals_wait


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A shell that starts the tests in the background has them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_waits_for_the_end() -> None:
    before = [signal.getsignal(number) for number in INTERRUPTING]
    done = []
    with pytest.raises(KeyboardInterrupt), signals_wait():
        done.append(signal.raise_signal(signal.SIGINT))
    assert done == [None]
    assert [signal.getsignal(number) for number in INTERRUPTING] == before


def test_what_is_ignored_stays_so_and_an_error_comes_through() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals_wait():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        with pytest.raises(ZeroDivisionError), signals_wait():
            raise ZeroDivisionError
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_happens() -> None:
    handlers = []

    def inside() -> None:
        with signals_wait():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
