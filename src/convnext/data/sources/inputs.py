"""Images that a command line names: files, folders, patterns, lists (tables, annotations), addresses, or standard
input."""

from __future__ import annotations

import glob
import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convnext.data.exclude import ExcludeList
from convnext.data.sources.columns import find_column_files
from convnext.data.sources.crops import LISTS
from convnext.data.sources.detection import read_annotated
from convnext.data.sources.image_files import describe_unread, find_images, say_unread
from convnext.data.sources.map_layouts import without_label_maps
from convnext.data.sources.tables import TABLE_SUFFIXES, read_columns
from convnext.errors import InputError
from convnext.storage.cache import is_address


def expand(inputs: list[str], exclude: ExcludeList | None = None) -> Iterator[tuple[str, Any]]:
    """Each image as (name, what `read_image` takes), without those that `exclude` lists, by their paths relative to the
    input they are of. `InputError` for an input that is not there or holds no image."""
    if exclude is not None:
        for item in inputs:
            images = list(expand([item]))
            yield from (images[place] for place in exclude.kept(item, [(name,) for name, _ in images]))
        return
    for item in inputs:
        if item == "-":
            yield from read_stdin(sys.stdin.buffer.read())
        elif is_address(item):
            yield item, item
        elif Path(item).is_dir():
            unread = Counter[str]()
            found = without_label_maps(Path(item), find_images(Path(item), unread))
            if not found:
                raise InputError(f"no images in {item}{': ' + describe_unread(unread) if unread else ''}")
            say_unread(unread)
            yield from ((str(path), path) for path in found)
        elif Path(item).suffix.lower() in (*LISTS, *TABLE_SUFFIXES) and Path(item).is_file():
            yield from ((str(path), path) for path in _listed(Path(item)))
        elif Path(item).exists() or Path(item).is_symlink():
            yield item, item
        else:
            matches = sorted(glob.glob(item, recursive=True))
            if not matches:
                raise InputError(f"no such file, folder or pattern: {item}")
            yield from expand(matches)


def _listed(path: Path) -> list[Path]:
    """The files that a table or a file of annotations names. `InputError` for a table that holds the images itself."""
    if path.suffix.lower() in LISTS:
        return [image.file for part in read_annotated(path).parts.values() for image in part.images]
    if find_column_files(path):
        raise InputError(f"{path} holds images, not paths: `train`, `evaluate`, `pretrain` and `pack` take it")
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
