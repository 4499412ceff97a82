"""Lists of images to leave out: `exclude.csv` of `convnext check`, another table of paths, or lines of them."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.data.sources.documents import read_text_file
from convnext.data.sources.hub import fetched
from convnext.data.sources.tables import TABLE_SUFFIXES, read_columns
from convnext.errors import InputError
from convnext.printing import counted
from convnext.storage.cache import is_address

log = logging.getLogger("convnext")

ANY_NAME = "surrogateescape"
"""How names of files are read that are not UTF-8, as a check writes them."""


@dataclass(frozen=True)
class ExcludeList:
    """Images to leave out.

    Args:
        file: where they are listed.
        names: their paths, relative to the data or absolute.
    """

    file: Path
    names: tuple[str, ...]

    def kept(self, data: str | Path, images: Sequence[Collection[str]]) -> list[int]:
        """Places of the images that are not listed; each image goes by any of some names.

        How many are left out is said in the log, and how many of the list are not in `data`. `InputError` where all of
        them are listed.
        """
        root = _root(data)
        wanted = {form: name for name in self.names for form in _forms(name, root)}
        found: set[str] = set()
        kept = []
        for place, names in enumerate(images):
            own = next((wanted[form] for name in names for form in _forms(name, None) if form in wanted), None)
            if own is None:
                kept.append(place)
            else:
                found.add(own)
        gone = [name for name in self.names if name not in found and not _is_there(name, root)]
        said = f"{counted(len(images) - len(kept), 'image')} left out by {self.file}"
        if gone:
            more = " and more" if len(gone) > 3 else ""
            said += f"; {counted(len(gone), 'file')} that it names not in {data}: {', '.join(gone[:3])}{more}"
        log.log(logging.WARNING if gone else logging.INFO, "%s: %s", data, said)
        if images and not kept:
            raise InputError(f"{self.file} leaves no image of {data}")
        return kept


def read_exclude(file: str | Path | None) -> ExcludeList | None:
    """The list in a table with a column of paths (CSV, TSV, JSONL, Parquet), or in another file, one path a line; None
    without a file. `InputError` if it cannot be read; a table without rows leaves nothing out."""
    if file is None:
        return None
    path = Path(file)
    if path.suffix.lower() in TABLE_SUFFIXES:
        names = [name for name, _ in read_columns(path, may_be_empty=True, errors=ANY_NAME)]
    else:
        text = read_text_file(path, ANY_NAME)
        if "\0" in text:
            raise InputError(f"{path}: not text in UTF-8 (it holds NUL)")
        names = [line.strip() for line in text.splitlines()]
    return ExcludeList(path, tuple(dict.fromkeys(name for name in names if name)))


def _root(data: str | Path) -> Path | None:
    """The folder that paths are relative to; None where data lie in no folder of this machine."""
    if is_address(data):
        return None
    place = Path(fetched(data))
    return place if place.is_dir() else place.parent


def _forms(name: str, root: Path | None) -> set[str]:
    """A name as it is written, and as an absolute path, below `root` or the present folder."""
    text = unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")
    absolute = os.path.abspath(text if root is None else os.path.join(unicodedata.normalize("NFC", str(root)), text))
    return {text, absolute}


def _is_there(name: str, root: Path | None) -> bool:
    try:
        return root is not None and (root / name.replace("\\", "/")).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
