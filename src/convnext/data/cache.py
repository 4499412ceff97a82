"""Files behind addresses, kept on the disk here: several processes share one copy.

They lie in `CONVNEXT_CACHE`, or ~/.cache/convnext. With `CONVNEXT_CACHE_GB`, the ones longest unused are deleted when
there are more gigabytes of them than that.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from convnext.download import download
from convnext.errors import InputError

PAUSES = (1, 4, 16)
"""Seconds between attempts: a server may be busy."""


def is_address(path: str | Path) -> bool:
    """Whether a path is behind http or https."""
    return str(path).startswith(("http://", "https://"))


def folder() -> Path:
    """Where the files lie."""
    return Path(os.environ.get("CONVNEXT_CACHE") or Path.home() / ".cache" / "convnext")


def fetch(url: str, path: Path, *, again: bool = False) -> Path:
    """`path`, with what lies at `url`: fetched if it is not there yet, or `again`. `InputError` if it cannot be."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if again or not path.is_file():
                _patiently(url, path)
                _make_room(path)
        os.utime(path)
    except OSError as error:
        raise InputError(f"cannot keep {url} in {path.parent}: {error.strerror or error}") from None
    return path


def _patiently(url: str, path: Path) -> None:
    for pause in PAUSES:
        try:
            return download(url, path)
        except InputError as error:
            if "answers 4" in str(error):  # asking again will not help
                raise
            time.sleep(pause)
    download(url, path)


def _make_room(newest: Path) -> None:
    limit = os.environ.get("CONVNEXT_CACHE_GB")
    if limit is None:
        return
    try:
        left = float(limit) * 1e9 - newest.stat().st_size
    except ValueError:
        raise InputError(f"CONVNEXT_CACHE_GB takes a number, not '{limit}'") from None
    others = [path for path in folder().rglob("*") if path.is_file() and path != newest]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
        left -= path.stat().st_size
        if left < 0:
            with suppress(OSError):  # another process was faster
                path.unlink()
