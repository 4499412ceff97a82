"""Images of any form of data, listed with their labels or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnext.data.images.decode import IMAGE_SUFFIXES
from convnext.data.images.video import VIDEO_SUFFIXES
from convnext.data.shards.read import is_sharded, read_shards
from convnext.data.sources.columns import find_column_files, read_column_images
from convnext.data.sources.crops import LISTS, read_crops
from convnext.data.sources.detection import annotated_images
from convnext.data.sources.digits import read_digits
from convnext.data.sources.folders import read_folder, read_unlabelled
from convnext.data.sources.frames import FRAME_RATE, read_frame_listing
from convnext.data.sources.hub import fetched
from convnext.data.sources.metadata import find_metadata, read_metadata
from convnext.data.sources.published_files import find_published, read_published
from convnext.data.sources.records import DataListing, ImageRecord
from convnext.data.sources.tables import TABLE_SUFFIXES, read_table, read_unlabelled_table
from convnext.errors import InputError


def read_listing(
    data: str | Path, classes: Sequence[str] | None, multi_label: bool, form: str | None = None
) -> DataListing:
    """All images of `data` with their labels, perhaps undivided; without `classes`, to train on.

    `data` is a folder (`folders.read_folder`), perhaps with a table (`metadata`) or `published_files` in it, a folder
    of tar shards or its address (`shards.read`), a table (`tables.read_table`), tables that hold the images themselves
    (`columns`), or the word "digits" for scikit-learn's (a folder of that name is "./digits"). Of a file of
    annotations, and with the name of a form of detection data, boxes are the images (`crops`). Data sets of the Hub
    (`hub`) are their folders.
    """
    data = fetched(data)
    path = Path(data)
    if form is not None or (path.suffix.lower() in LISTS and path.is_file()):
        return read_crops(data, form)
    if data == "digits":
        return read_digits()
    if is_sharded(data):
        listing = read_shards(data, "classes")
        _check_labels(data, listing, multi_label)
        return listing
    if tables := find_column_files(path):
        return read_column_images(path, tables, labels=True, multi_label=multi_label)
    if path.is_dir():
        if published := find_published(path):
            return read_published(published)
        if metadata := find_metadata(path):
            return read_metadata(metadata, classes, multi_label)
        return read_folder(path, training=classes is None)
    if not path.exists():
        raise InputError(f"{data}: no such folder or table")
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(f"{data}: neither a folder nor a table ({', '.join(TABLE_SUFFIXES)})")
    return read_table(path, classes, multi_label)


def _check_labels(data: str | Path, listing: DataListing, multi_label: bool) -> None:
    for entry in listing.entries:
        if len(entry.labels) != 1 and not multi_label:
            what = (
                "several labels; it takes a multi-label task"
                if entry.labels
                else "no label; `convnext pretrain` needs none"
            )
            raise InputError(f"{data}: {entry.source} has {what}")


def read_unlabelled_listing(data: str | Path, frame_rate: float = FRAME_RATE) -> DataListing:
    """All images of `data` without labels, as `read_images` has them. `InputError` as there."""
    data = fetched(data)
    path = Path(data)
    if data == "digits":
        return read_digits()
    if is_sharded(data):
        return read_shards(data)
    if tables := find_column_files(path):
        return read_column_images(path, tables, labels=False)
    if not path.is_file():
        if path.is_dir() and (published := find_published(path)):
            return read_published(published)
        return read_unlabelled(path, frame_rate)
    if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        return read_frame_listing(path.parent, [path], frame_rate)
    if path.suffix.lower() in LISTS:
        return DataListing([ImageRecord(str(i.file), (), "train", i.key) for i in annotated_images(path)], ())
    return read_unlabelled_table(path)
