"""Folders of images with a table beside them: `metadata.csv`, `.jsonl` or `.parquet`, of all or in each part.

FOLDER/metadata.csv   FOLDER/a.jpg        FOLDER/train/metadata.csv   FOLDER/train/a.jpg
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from convnext.data.sources.finder import child, part_folders, settled_parts
from convnext.data.sources.records import DataListing, in_class_order
from convnext.data.sources.tables import has_labels, read_table

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "metadata.tsv")
"""Names of such a table, in any case."""


def find_metadata(folder: Path) -> dict[str, Path]:
    """The tables with labels of the parts of a folder; "" where one table is of all, and none without."""
    if (own := child(folder, METADATA_NAMES)) is not None and has_labels(own):
        return {"": own}
    tables = {part: child(path, METADATA_NAMES) for part, path in part_folders(folder).items()}
    return settled_parts({part: path for part, path in tables.items() if path is not None and has_labels(path)})


def read_metadata(tables: dict[str, Path], classes: Sequence[str] | None, multi_label: bool) -> DataListing:
    """The rows of all tables, as `tables.read_table` has them; `InputError` for one that cannot be read."""
    read = {part: read_table(path, classes, multi_label) for part, path in tables.items()}
    if list(read) == [""]:
        return read[""]
    entries = [entry._replace(part=part) for part, listing in read.items() for entry in listing.entries]
    names = in_class_order(name for listing in read.values() for name in listing.classes)
    return replace(next(iter(read.values())), entries=entries, classes=tuple(classes) if classes is not None else names)
