"""The lock that keeps two programs from one run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from convnext.errors import InputError

LOCK = ".lock"

log = logging.getLogger("convnext")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the run at `path` against other programs; the first of a run's processes does it for all.

    `InputError` if another program is writing it.
    """
    from convnext.runtime import distributed  # here: it takes PyTorch, without which runs are listed

    if distributed.rank():
        yield
        return
    lock = FileLock(path / LOCK)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process is writing {path}") from None
    except NotImplementedError:  # what filelock raises where the file system, often one on a network, has no locks
        log.warning("%s lies where files cannot be locked: see that one process alone writes it", path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        (path / LOCK).unlink(missing_ok=True)  # nobody waits for it
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a program is writing the run at `path`; False where that cannot be told."""
    if not (path / LOCK).is_file():
        return False
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (NotImplementedError, OSError):  # no locks there, or no right to take one
        return False
    lock.release()
    return False
