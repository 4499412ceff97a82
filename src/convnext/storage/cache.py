"""Shards behind addresses, kept on the disk here: several processes share one copy.

They lie in `CONVNEXT_CACHE`, or ~/.cache/convnext, under shards/. With `CONVNEXT_CACHE_GB`, those that were opened
longest ago are deleted where there are more gigabytes of them; a process keeps what it has open until it closes it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from convnext.errors import InputError
from convnext.printing import without_password
from convnext.storage.download import Refused, download
from convnext.storage.files import cache_folder, sha256_of

PAUSES = (1, 4, 16)
"""Seconds between attempts: a server may be busy."""


def is_address(path: str | Path) -> bool:
    """Whether a path is behind http or https."""
    return str(path).startswith(("http://", "https://"))


def download_cache() -> Path:
    """Folder of the files."""
    return cache_folder() / "shards"


def fetch(url: str, path: Path, *, most: int, digest: str | None = None, again: bool = False) -> Path:
    """`path`, with what lies at `url`: fetched if it is not there yet, or `again`.

    Raises:
        InputError: it cannot be fetched, or has more than `most` bytes, or another SHA-256 than `digest` (None: any).
    """
    with _locked(url, path) as held:
        if held and (again or _size(path) is None):
            _replace(url, path, most, None, digest)
        _touch(path)
    return path


def open_fetched(url: str, path: Path, size: int, digest: str | None) -> int:
    """The number of an open file with what lies at `url`.

    Raises:
        InputError: it cannot be fetched, has not `size` bytes, or another SHA-256 than `digest`, if that is known.
    """
    with _locked(url, path) as held:
        if _size(path) != size:
            if not held:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            _replace(url, path, size, size, digest)
            _make_room(path)
        _touch(path)
        return os.open(path, os.O_RDONLY)


@contextmanager
def _locked(url: str, path: Path) -> Iterator[bool]:
    """Inside, no other process fetches or deletes `path`; or, as False says, it is there in a cache that another user
    keeps, where nothing can be locked or replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            held = os.access(path.parent, os.W_OK) or not path.is_file()
            if held:
                try:
                    stack.enter_context(FileLock(_lock(path)))
                except PermissionError:  # the lock is another user's
                    if not path.is_file():
                        raise
                    held = False
            yield held
    except OSError as error:
        said = f"cannot keep {without_password(url)} in {path.parent}: {error.strerror or error}"
        raise InputError(said) from None


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _replace(url: str, path: Path, most: int, size: int | None, digest: str | None) -> None:
    for unfinished in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        unfinished.unlink()
    get = partial(download, url, path, most=most, check=partial(_check, without_password(url), size, digest))
    for pause in PAUSES:
        try:
            return get()
        except Refused:
            raise
        except InputError:
            time.sleep(pause)
    get()


def _check(said: str, size: int | None, digest: str | None, path: Path) -> None:
    if size is not None and (found := _size(path)) != size:
        raise Refused(f"{said} has {found} bytes, and {size} by the index: it has been replaced")
    if digest is not None and sha256_of(path) != digest:
        raise Refused(f"{said} is not the file that the index names: its SHA-256 differs")


def _touch(path: Path) -> None:
    with suppress(OSError):  # another user's, or on a disk that is only read
        os.utime(path)


def _size(path: Path) -> int | None:
    """A file's size in bytes; None if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _make_room(newest: Path) -> None:
    limit = os.environ.get("CONVNEXT_CACHE_GB")
    if limit is None:
        return
    try:
        left = float(limit) * 1e9
    except ValueError:
        raise InputError(f"CONVNEXT_CACHE_GB takes a number, not '{limit}'") from None
    found = []
    for path in download_cache().rglob("*.tar"):
        with suppress(FileNotFoundError):  # another process was faster
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    for _, size, path in sorted(found, reverse=True):
        left -= size
        if left < 0 and path != newest:
            # What is being opened stays, and what is another user's.
            with suppress(Timeout, PermissionError), FileLock(_lock(path), timeout=0):
                path.unlink(missing_ok=True)
