"""Folders: one per class, under `train/` and `val/`, or directly, with a part held out; or without labels."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from convnext.data.images.video import VIDEO_SUFFIXES, videos_are_read
from convnext.data.sources.frames import read_frame_listing
from convnext.data.sources.image_files import describe_unread, find_images, is_hidden, say_unread
from convnext.data.sources.map_layouts import without_label_maps
from convnext.data.sources.records import DataListing, ImageRecord, class_name, in_class_order
from convnext.data.splits import PART_NAMES, UNDIVIDED, held_out_part, part_of_name
from convnext.errors import InputError
from convnext.printing import first_names

log = logging.getLogger("convnext")


def read_folder(folder: Path, training: bool) -> DataListing:
    """The images under `folder`, by class folder.

    Folders called train, val or test (or training, valid, validation, dev, testing, in any case) are parts, whose
    folders are the classes; without any the classes lie in `folder` itself. Images under train/ alone are undivided.
    For `training` there must be images of each class to train on, and a test part beside a val part is left out; else
    it is where its images have no labels.
    """
    found = _parts(folder)
    if training and found and "train" not in found:
        first = next(iter(found.values())).name
        raise InputError(f"{folder}: there is {first}/ but no train/ beside it")
    held_out = held_out_part(found)
    if training and held_out is not None:
        if others := [path.name for part, path in found.items() if part not in ("train", held_out)]:
            log.info("%s: left alone: %s", folder, " and ".join(others))
        found = {part: path for part, path in found.items() if part in ("train", held_out)}
    if held_out is None:
        found = {UNDIVIDED: found.get("train", folder)}
    entries: list[ImageRecord] = []
    classes: dict[str, tuple[str, ...]] = {}
    for part, path in found.items():
        try:
            own, classes[part] = _read_part(path, part)
        except InputError as error:
            if part != "test" or part == held_out:
                raise
            log.info("left alone: %s", error)  # the test images of a competition, say, which have no labels
            continue
        entries += own
    if training and held_out is not None:
        extra = [name for name in classes[held_out] if name not in classes["train"]]
        if extra:
            raise InputError(f"{found[held_out]}: classes that {found['train']} lacks: {first_names(extra)}")
    listed = in_class_order(name for names in classes.values() for name in names)
    if training and len(listed) == 1 and (below := folder / listed[0]).is_dir() and len(_subfolders(below)) > 1:
        raise InputError(f"{folder}: only one class ({listed[0]}), with folders in it: is {below} the data?")
    if training:
        trained = {entry.labels[0] for entry in entries if entry.part in ("train", UNDIVIDED)}
        bare = [name for name in listed if name not in trained]
        if bare:
            raise InputError(f"{folder}: classes without any image to train on: {first_names(bare)}")
    return DataListing(entries, listed)


def _parts(folder: Path) -> dict[str, Path]:
    """The folders that are parts of the data, train first. A class may be called train too: beside folders that are no
    parts, one that holds no folders is none."""
    names = _subfolders(folder)
    alone = all(map(part_of_name, names))
    named = {name: folder / name for name in names if part_of_name(name) and (alone or _subfolders(folder / name))}
    found: dict[str, Path] = {}
    for part, known in PART_NAMES.items():
        for name in sorted(named, key=lambda name: (name not in known, name)):  # val before Valid, if there are both
            if part_of_name(name) == part:
                found.setdefault(part, named[name])
    return found


def read_unlabelled(folder: Path, frame_rate: float) -> DataListing:
    """All images under `folder`, flat or nested, without labels, to train on; label maps of others are left out.

    Frames of videos, so many a second, and pages of TIFFs are images too.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    unread = Counter[str]()
    videos = VIDEO_SUFFIXES if videos_are_read() else ()
    found = without_label_maps(folder, find_images(folder, unread, also=videos))
    if not found:
        what = f": {describe_unread(unread)}" if unread else ""
        raise InputError(f"{folder}: no images in this folder or below{what}")
    say_unread(unread)
    return read_frame_listing(folder, found, frame_rate)


def _read_part(folder: Path, part: str) -> tuple[list[ImageRecord], tuple[str, ...]]:
    names = sorted(_subfolders(folder))
    classes = in_class_order(map(class_name, names))
    if not classes:
        layout = "expected a folder per class, as in DATA/train/cat/1.jpg and DATA/val/cat/2.jpg, or DATA/cat/1.jpg"
        what = "images lie directly inside" if find_images(folder) else "no class folders inside"
        raise InputError(f"{folder}: {what if any(folder.iterdir()) else 'empty folder'}; {layout}")
    position = {name: number for number, name in enumerate(classes)}
    unread = Counter[str]()
    entries = [
        ImageRecord(str(path), (class_name(name),), part, path.relative_to(folder).as_posix())
        for name in sorted(names, key=lambda name: position[class_name(name)])
        for path in find_images(folder / name, unread)
    ]
    if not entries:
        what = f": {describe_unread(unread)}" if unread else ""
        raise InputError(f"{folder}: no images in its folders {first_names(list(classes))}{what}")
    say_unread(unread)
    return entries, classes


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]
