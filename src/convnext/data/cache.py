"""Shards behind addresses, kept on the disk here: several processes share one copy.

They lie in `CONVNEXT_CACHE`, or ~/.cache/convnext, under shards/. With `CONVNEXT_CACHE_GB`, those that were opened
longest ago are deleted where there are more gigabytes of them; a process keeps what it has open until it closes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from convnext.download import Refused, download
from convnext.errors import InputError
from convnext.files import cache_folder

PAUSES = (1, 4, 16)
"""Seconds between attempts: a server may be busy."""


def is_address(path: str | Path) -> bool:
    """Whether a path is behind http or https."""
    return str(path).startswith(("http://", "https://"))


def folder() -> Path:
    """Where the files lie."""
    return cache_folder() / "shards"


def fetch(url: str, path: Path, *, again: bool = False) -> Path:
    """`path`, with what lies at `url`: fetched if it is not there yet, or `again`. `InputError` if it cannot be."""
    with _locked(url, path):
        _fetch(url, path, None, again)
    return path


def open_fetched(url: str, path: Path, size: int) -> int:
    """The number of an open file with what lies at `url`. `InputError` also if it has not `size` bytes."""
    with _locked(url, path):
        _fetch(url, path, size)
        return os.open(path, os.O_RDONLY)


@contextmanager
def _locked(url: str, path: Path) -> Iterator[None]:
    """Inside, no other process fetches or deletes `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock(path)):
            yield
    except OSError as error:
        raise InputError(f"cannot keep {url} in {path.parent}: {error.strerror or error}") from None


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _fetch(url: str, path: Path, size: int | None, again: bool = False) -> None:
    if again or _size(path) is None or size not in (None, _size(path)):
        for unfinished in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
            unfinished.unlink()
        _patiently(url, path)
        if size is not None and (found := _size(path)) != size:
            path.unlink()
            raise InputError(f"{url} has {found} bytes, and {size} by the index: it has been replaced")
        _make_room(path)
    os.utime(path)


def _size(path: Path) -> int | None:
    """A file's size in bytes; None if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _patiently(url: str, path: Path) -> None:
    for pause in PAUSES:
        try:
            return download(url, path)
        except Refused:
            raise
        except InputError:
            time.sleep(pause)
    download(url, path)


def _make_room(newest: Path) -> None:
    limit = os.environ.get("CONVNEXT_CACHE_GB")
    if limit is None:
        return
    try:
        left = float(limit) * 1e9
    except ValueError:
        raise InputError(f"CONVNEXT_CACHE_GB takes a number, not '{limit}'") from None
    found = []
    for path in folder().rglob("*.tar"):
        with suppress(FileNotFoundError):  # another process was faster
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    for _, size, path in sorted(found, reverse=True):
        left -= size
        if left < 0 and path != newest:
            with suppress(Timeout), FileLock(_lock(path), timeout=0):  # one that is being opened stays
                path.unlink(missing_ok=True)
