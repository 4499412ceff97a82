"""Images that a command line names: files, folders, videos, patterns, lists (tables, annotations), tables and shards
that hold images, data sets of the Hub, addresses, or standard input."""

from __future__ import annotations

import glob
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convnext.data.exclude import ExcludeList
from convnext.data.images.video import VIDEO_SUFFIXES
from convnext.data.sources.columns import find_column_files
from convnext.data.sources.crops import LISTS
from convnext.data.sources.detection import annotated_images
from convnext.data.sources.hub import fetched
from convnext.data.sources.listing import read_unlabelled_listing
from convnext.data.sources.records import DataListing, Member
from convnext.data.sources.tables import TABLE_SUFFIXES, read_columns
from convnext.errors import InputError
from convnext.storage.cache import is_address


def expand(inputs: list[str], exclude: ExcludeList | None = None) -> Iterator[tuple[str, Any]]:
    """Each image as (name, what `read_image` takes), without those that `exclude` lists, by their paths relative to the
    input they are of. `InputError` for an input that is not there or holds no image."""
    if exclude is not None:
        for item in inputs:
            images = list(expand([item]))
            names = [(n, image.record.key) if isinstance(image, Member) else (n,) for n, image in images]
            yield from (images[place] for place in exclude.kept(item, names))
        return
    for item in inputs:
        item = str(fetched(item))
        if item == "-":
            yield from read_stdin(sys.stdin.buffer.read())
        elif is_address(item):
            yield item, item
        elif _holds_images(item):
            yield from _inside(read_unlabelled_listing(item))
        elif Path(item).suffix.lower() in (*LISTS, *TABLE_SUFFIXES) and Path(item).is_file():
            yield from ((str(path), path) for path in _listed(Path(item)))
        elif Path(item).exists() or Path(item).is_symlink():
            yield item, item
        else:
            matches = sorted(glob.glob(item, recursive=True))
            if not matches:
                raise InputError(f"no such file, folder or pattern: {item}")
            yield from expand(matches)


def _holds_images(item: str) -> bool:
    """Whether it is data that hold images: a folder, a video, a table with the images themselves, or digits."""
    path = Path(item)
    if path.is_file():
        return path.suffix.lower() in VIDEO_SUFFIXES or bool(find_column_files(path))
    return path.is_dir() or item == "digits"


def _inside(listing: DataListing) -> Iterator[tuple[str, Any]]:
    """The images of a listing; what are no files of their own are read in their turn."""
    for index, entry in enumerate(listing.entries):
        if listing.members is not None:
            yield entry.source, Member(entry, listing.members, index)
        elif listing.images is not None:
            yield entry.source, listing.images[index]
        else:
            yield entry.source, Path(entry.source)


def _listed(path: Path) -> list[Path]:
    """The files that a table or a file of annotations names."""
    if path.suffix.lower() in LISTS:
        return [image.file for image in annotated_images(path)]
    return [path.parent / name for name, _ in read_columns(path)]


def read_stdin(content: bytes) -> Iterator[tuple[str, Any]]:
    """Standard input is one image, or the paths or addresses of images, one a line."""
    if not content.strip():
        raise InputError("standard input is empty: pipe an image or a list of paths into it")
    try:
        lines = content.decode().splitlines() if b"\0" not in content else []
    except UnicodeDecodeError:
        lines = []
    if not lines:
        yield "-", io.BytesIO(content)
    yield from ((line, line) for line in lines if line.strip())
