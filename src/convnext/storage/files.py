"""Folders for files, and writing files whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convnext.errors import InputError


def cache_folder() -> Path:
    """Folder of files that can be fetched or made again: `CONVNEXT_CACHE`, or ~/.cache/convnext."""
    return Path(os.environ.get("CONVNEXT_CACHE") or Path.home() / ".cache" / "convnext")


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short(name: str, most: int = 180) -> str:
    """The start of a name, of at most so many bytes: file systems take 255, and something may be added to it."""
    return os.fsdecode(os.fsencode(name)[:most]) if len(os.fsencode(name)) > most else name


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, what the system says against writing becomes an `InputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder for results, and those above it. `InputError` if it cannot be made."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes `path`'s place only when the block ends well.

    Raises:
        InputError: the folder cannot be written or the disk is full; what was at `path` is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{short(path.name, 64)}.{os.getpid()}.tmp")
    try:
        with writing(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # a folder that is gone or no folder
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder`, which takes its place only when the block ends well.

    Args:
        folder: a new or empty folder.
        replace: take the place of a folder that holds something too.

    Raises:
        InputError: the place is taken or cannot be written, or the disk is full.
    """
    if folder.exists() and not (folder.is_dir() and (replace or not any(folder.iterdir()))):
        raise InputError(f"{folder} exists already; name a new folder")
    with writing(folder):
        place = Path(os.path.realpath(folder))  # "." has no name, and a link stays a link
    temporary = place.with_name(f".{short(place.name, 64)}.{os.getpid()}.tmp")
    try:
        with writing(folder):
            temporary.mkdir()
            yield temporary
            _put(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(new: Path, place: Path) -> None:
    """Move a folder to `place`. What was there comes back if that fails, and is removed if it does not."""
    if place.exists() and os.path.samefile(place, os.curdir):  # which would be gone for this process, and a shell
        _put_contents(new, place)
        return
    old = new.with_suffix(".old")
    try:
        if place.exists():
            os.replace(place, old)
        os.replace(new, place)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _put_contents(new, place)  # a mount point, as volumes of containers are
    finally:
        if old.exists() and not place.exists():
            os.replace(old, place)
        shutil.rmtree(old, ignore_errors=True)


def _put_contents(new: Path, place: Path) -> None:
    """Exchange what the folder `place` holds for what `new` holds; the folder itself stays. All comes back if that
    fails."""
    inner, old = place / new.name, place / new.with_suffix(".old").name
    moved: list[tuple[Path, Path]] = []
    try:
        shutil.move(new, inner)  # maybe from another file system; from here on, files only change their names
        old.mkdir()
        for folder, into in ((place, old), (inner, place)):
            for path in sorted(folder.iterdir()):
                if path not in (inner, old):
                    moved.append((path, into / path.name))
                    os.replace(path, into / path.name)
    except BaseException:  # an interruption too
        for before, after in reversed(moved):
            with suppress(FileNotFoundError):  # of the last, if it was not moved
                os.replace(after, before)
        shutil.rmtree(inner, ignore_errors=True)
        with suppress(OSError):  # not made yet, or it holds what could not be moved back
            old.rmdir()
        raise
    for folder in (inner, old):
        shutil.rmtree(folder, ignore_errors=True)
