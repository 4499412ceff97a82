"""Groups of images that belong together, and the times they were taken: by folders, names, or columns of a table."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from convnext.data.sources.finder import child, part_folders
from convnext.data.sources.hub import fetched
from convnext.data.sources.metadata import METADATA_NAMES
from convnext.data.sources.tables import TABLE_SUFFIXES, rows_of_images
from convnext.errors import InputError
from convnext.printing import counted

Cells = Callable[[str], Sequence[Any]]
"""Gives the cells of a column by its name, one an image; None where the table has no row for an image."""

FOLDER = "folder"
"""Word for grouping by the folder that an image lies in."""


def groups_of(data: str | Path, by: str, keys: Sequence[str], cells: Cells) -> list[str]:
    """The group of each image.

    Args:
        data: where they lie, for messages.
        by: "folder" for the name of the folder that an image lies in; the name of a column; or a regular expression
            with parentheses, which hold what names the group in a part of the path.
        keys: paths relative to the data.
        cells: the columns.

    Raises:
        InputError: an image of which the group is not known, no such column, or no regular expression.
    """
    if by == FOLDER:
        found: list[str | None] = [PurePosixPath(key).parent.name or None for key in keys]
        unknown = "lie in no folder"
    elif (column := _column(by, cells)) is None:
        found, unknown = _matched(by, keys), "do not match it"
    else:
        found, unknown = [cell_text(cell) for cell in column], "have none"
    lacking = [key for key, group in zip(keys, found, strict=True) if group is None]
    if lacking:
        raise InputError(f"{data}: --group-by {by}: {counted(len(lacking), 'image')} {unknown}, such as {lacking[0]}")
    return [group for group in found if group is not None]


def _column(name: str, cells: Cells) -> Sequence[Any] | None:
    """Cells of a column, by its name; None where no column has it and the name may be a regular expression."""
    try:
        return cells(name)
    except InputError:
        if "(" in name:
            return None
        raise


def _matched(pattern: str, keys: Sequence[str]) -> list[str | None]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-by {pattern}: not a regular expression: {error}") from None
    if not expression.groups:
        raise InputError(f"--group-by {pattern}: parentheses say which part of a name is the group, as in (.*)_[0-9]+")
    matches = (expression.search(key) for key in keys)
    return [None if match is None else "/".join(part or "" for part in match.groups()) for match in matches]


def cell_text(cell: Any) -> str | None:
    """Text of a table's cell; None where the cell is empty, NaN or missing."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # how Parquet gives integers with gaps
    text = str(cell).strip()
    return None if text in ("", "nan", "NaN") else text  # how tables of NumPy and pandas write what is missing


def times_of(data: str | Path, column: str, keys: Sequence[str], cells: Cells) -> list[float]:
    """When each image was taken: numbers as they are, dates in seconds since 1970.

    `InputError` for no such column, an image without a date, one that cannot be read, or dates beside numbers.
    """
    times: list[float] = []
    kinds: dict[str, str] = {}
    for key, cell in zip(keys, cells(column), strict=True):
        read = _time(cell)
        if read is None:
            what = (
                "no date" if cell_text(cell) is None else f"'{cell}' is no date, as 2024-01-31 or 2024-01-31 12:30 is"
            )
            raise InputError(f"{data}: --time-column {column}: {what} ({key})")
        times.append(read[0])
        kinds.setdefault(read[1], key)
    if len(kinds) > 1:
        said = " and ".join(f"{kind} ({key})" for kind, key in kinds.items())
        raise InputError(f"{data}: --time-column {column}: there are {said}, which cannot be compared")
    return times


def _time(cell: Any) -> tuple[float, str] | None:
    """A time as a number, and what kind of text it was."""
    if isinstance(cell, datetime.date) and not isinstance(cell, datetime.datetime):
        cell = datetime.datetime(cell.year, cell.month, cell.day)
    if not isinstance(cell, datetime.datetime):
        text = cell_text(cell)
        if text is None:
            return None
        try:
            number = float(text)
            return (number, "numbers") if math.isfinite(number) else None
        except ValueError:
            pass
        exif = re.fullmatch(r"(\d{4}):(\d\d):(\d\d)(.*)", text)  # how cameras write it
        try:
            cell = datetime.datetime.fromisoformat("-".join(exif.groups()[:3]) + exif[4] if exif else text)
        except ValueError:
            return None
    zone = cell.tzinfo or datetime.UTC
    return (cell.replace(tzinfo=zone) - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds(), "dates"


def column_of_tables(data: str | Path, files: Sequence[str], column: str) -> list[Any]:
    """The cells of a column for images by their files: of the table that the data are, or of `metadata.csv` (or
    `.jsonl`, `.parquet`, `.tsv`) in their folder, in `images/` or in the folders of parts.

    `InputError` where no table is found, none has the column, or none has a row for any image.
    """
    tables = _tables(Path(fetched(data)))
    if not tables:
        raise InputError(
            f"{data}: no column {column}, for there is no table: it stands in {METADATA_NAMES[0]} beside the images, "
            f"with a column `path`"
        )
    own = list(dict.fromkeys(files))  # boxes of one image have the same
    rows: dict[str, dict[str, Any]] = {}
    for table in tables:
        rows |= {own[place]: row for place, row in rows_of_images(table, own, str(data)).items()}
    said = ", ".join(map(str, tables))
    if not rows:
        raise InputError(f"{said}: no row for any image: {files[0]} is one")
    known = dict.fromkeys(name for row in rows.values() for name in row)
    if column not in known:
        raise InputError(f"{said}: no column {column}; there are {', '.join(known) or 'no others than paths'}")
    return [rows.get(file, {}).get(column) for file in files]


def _tables(data: Path) -> list[Path]:
    if data.is_file() and data.suffix.lower() in TABLE_SUFFIXES:
        return [data]
    folder = data if data.is_dir() else data.parent
    images = child(folder, ("images",))
    above = [folder] if images is None else [folder, images]
    places = [*above, *(part for each in above for part in part_folders(each).values())]
    return [table for place in places if (table := child(place, METADATA_NAMES)) is not None]
