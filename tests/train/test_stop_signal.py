"""Signals to stop: the first is kept, the second ends, and where no step is half done the first does."""

from __future__ import annotations

import signal

import pytest

from convnext.train.stop_signal import Interruption, StopSignal


@pytest.fixture
def before() -> object:
    return signal.getsignal(signal.SIGTERM)


def test_the_first_is_kept_and_the_second_ends(before: object) -> None:
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        with pytest.raises(Interruption) as caught:
            signal.raise_signal(signal.SIGUSR1)
    assert (caught.value.signal, caught.value.whole) == (signal.SIGUSR1, False)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_first_ends_where_it_may_and_nowhere_else() -> None:
    with StopSignal() as stop:
        with pytest.raises(Interruption) as caught, stop.at_once():
            signal.raise_signal(signal.SIGTERM)
        assert (caught.value.signal, caught.value.whole) == (signal.SIGTERM, True)
    with StopSignal() as stop:
        with stop.at_once():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        with pytest.raises(Interruption), stop.at_once():
            pytest.fail("a signal that has come is not waited with")
