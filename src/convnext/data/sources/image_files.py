"""The image files of a folder, and those of kinds that are not read."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from convnext.data.images.decode import IMAGE_SUFFIXES
from convnext.data.images.video import VIDEO_SUFFIXES
from convnext.errors import InputError

UNREAD = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), "raw camera"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **{".jxl": "JPEG XL", ".psd": "Photoshop", ".svg": "SVG", ".exr": "OpenEXR", ".nii": "NIfTI", ".czi": "CZI"},
}
"""Suffixes of files that hold images and are not read, with what people call them."""

LITTER = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that operating systems leave among people's own: no classes, and their thumbnails no images."""

log = logging.getLogger("convnext")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name in LITTER


def find_images(folder: str | Path, unread: Counter[str] | None = None, *, also: Collection[str] = ()) -> list[Path]:
    """Every image file under `folder`, by suffix in either case, sorted; hidden files and folders are skipped.

    Files with suffixes of `also` count as images. Links are followed, but never back into a folder that is being
    walked. Into `unread` go the files of kinds that hold images and are not read, by kind.
    """
    wanted = IMAGE_SUFFIXES.union(also)
    return sorted(_walk(Path(folder), frozenset(), Counter() if unread is None else unread, wanted))


def say_unread(unread: Counter[str]) -> None:
    """Log the counts of files that `find_images` passed over, if any."""
    if unread:
        log.warning("%s", describe_unread(unread))


def describe_unread(unread: Counter[str]) -> str:
    """A sentence with the number of unread files of each kind, and what would read them."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in unread.most_common())
    advice = "convert them to PNG or JPEG"
    if "HEIC" in unread:
        advice = "pip install 'convnext[heic]' reads HEIC"
    elif "video" in unread:
        advice = "`convnext pretrain` reads videos, with pip install 'convnext[video]'"
    return f"{kinds} files are not read: {advice}"


def _walk(folder: Path, above: frozenset[Path], unread: Counter[str], suffixes: Collection[str]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {(error.strerror or str(error)).lower()}") from None
    for entry in entries:
        if is_hidden(entry.name):
            continue
        kind = _kind(entry)
        if kind == "folder":
            yield from _walk(folder / entry.name, above | {real}, unread, suffixes)
        elif kind == "file":
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in suffixes:
                yield folder / entry.name
            elif suffix in UNREAD:
                unread[UNREAD[suffix]] += 1


def _kind(entry: os.DirEntry) -> str:
    try:
        if entry.is_dir():
            return "folder"
        # A broken link counts: it is reported when it is read, rather than lost in silence.
        return "file" if entry.is_file() or entry.is_symlink() else "other"
    except OSError:  # a link to itself
        return "file"
