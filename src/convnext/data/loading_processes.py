"""The processes that load images: what they send, how they end, and the signals that are none of theirs."""

from __future__ import annotations

import atexit
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from convnext.data.augment.erasing import NormalizeAndErase
from convnext.errors import InputError
from convnext.runtime.signals import INTERRUPTING, signals_wait


def in_shared_memory(collate: Callable[[Any], Any], items: Any) -> Any:
    """A batch in memory that its loading process shares with this one; an `InputError` where there is too little.

    PyTorch would put it there while sending it, from a thread whose failure nobody hears of: the run waits for ever.
    """
    batch = collate(items)
    if get_worker_info() is not None:
        try:
            for tensor in _tensors_in(batch):
                tensor.share_memory_()
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            total = shutil.disk_usage("/dev/shm").total / 2**20
            return InputError(
                f"/dev/shm is full ({total:.0f} MB), through which images are loaded: take fewer --workers, or in "
                "Docker --shm-size 8g"
            )
    return batch


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors_in(each)
    elif isinstance(value, NormalizeAndErase):
        yield value.noise


@contextmanager
def _deaths_noticed_when_loading() -> Iterator[None]:
    """Undo the handler with which torch raises a worker's death anywhere, in the middle of an optimizer's step too."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)


def loaded_batches(loader: DataLoader[Any]) -> Generator[Any]:
    """The loader's batches; a killed loader process is an `InputError`."""
    try:
        # An iterator half made would leave the processes that it has started.
        with warnings.catch_warnings(), signals_wait(), _deaths_noticed_when_loading():
            # Python 3.12+ warns of any fork beside threads; the workers use none of torch's.
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
            batches = iter(loader)
            _started.update(getattr(batches, "_workers", ()))
        yield from batches
    except RuntimeError as error:
        if not any(words in str(error) for words in ("exited unexpectedly", "killed by signal")):
            raise
        raise InputError(
            "a process that loads images was killed, perhaps for want of memory; fewer --workers need less"
        ) from error


_started: WeakSet[BaseProcess] = WeakSet()


@atexit.register
def _kill_workers() -> None:
    # At the end of a program that fails, multiprocessing asks its children to end, which these do not hear, and waits.
    for worker in _started:
        if worker.is_alive():
            worker.kill()


def leave_signals_to_parent(worker: int) -> None:
    """Begin loading process number `worker`: signals to stop, often sent to all, are the parent's, which ends it."""
    for number in INTERRUPTING:
        signal.signal(number, signal.SIG_IGN)
