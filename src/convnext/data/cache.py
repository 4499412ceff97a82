"""Shards behind addresses, kept on the disk here: several processes share one copy.

They lie in `CONVNEXT_CACHE`, or ~/.cache/convnext, under shards/. With `CONVNEXT_CACHE_GB`, those that were opened
longest ago are deleted where there are more gigabytes of them; a process keeps what it has open until it closes it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from convnext.download import Refused, download, without_password
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


def fetch(url: str, path: Path, *, most: int, again: bool = False) -> Path:
    """`path`, with what lies at `url`: fetched if it is not there yet, or `again`. `InputError` if it cannot be, or has
    more than `most` bytes."""
    if _of_another(path):
        return path
    with _locked(url, path):
        if again or _size(path) is None:
            _replace(url, path, most)
        _touch(path)
    return path


def open_fetched(url: str, path: Path, size: int, digest: str | None) -> int:
    """The number of an open file with what lies at `url`.

    Raises:
        InputError: it cannot be fetched, has not `size` bytes, or another SHA-256 than `digest`, if that is known.
    """
    if _size(path) == size and _of_another(path):
        return os.open(path, os.O_RDONLY)
    with _locked(url, path):
        if _size(path) != size:
            _replace(url, path, size)
            if (found := _size(path)) != size:
                path.unlink()
                said = f"{without_password(url)} has {found} bytes, and {size} by the index"
                raise InputError(f"{said}: it has been replaced")
            if digest is not None and sha256_of(path) != digest:
                path.unlink()
                raise InputError(f"{without_password(url)} is not the file that the index names: its SHA-256 differs")
            _make_room(path)
        _touch(path)
        return os.open(path, os.O_RDONLY)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_another(path: Path) -> bool:
    """Whether a file is there, in another user's cache: nothing can be locked in it, and nothing replaced."""
    return path.is_file() and not os.access(path.parent, os.W_OK)


@contextmanager
def _locked(url: str, path: Path) -> Iterator[None]:
    """Inside, no other process fetches or deletes `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock(path)):
            yield
    except OSError as error:
        said = f"cannot keep {without_password(url)} in {path.parent}: {error.strerror or error}"
        raise InputError(said) from None


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _replace(url: str, path: Path, most: int) -> None:
    for unfinished in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        unfinished.unlink()
    _patiently(url, path, most)


def _touch(path: Path) -> None:
    with suppress(PermissionError):  # another user's, in a folder of several
        os.utime(path)


def _size(path: Path) -> int | None:
    """A file's size in bytes; None if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _patiently(url: str, path: Path, most: int) -> None:
    for pause in PAUSES:
        try:
            return download(url, path, most=most)
        except Refused:
            raise
        except InputError:
            time.sleep(pause)
    download(url, path, most=most)


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
