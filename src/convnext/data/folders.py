"""Folders: one per class, under `train/` and `val/`, or directly, with a part held out; or without labels."""

from __future__ import annotations

from pathlib import Path

from convnext.data.decode import find_images
from convnext.data.entries import HELD_OUT, Entry, Listing, hold_out, in_class_order
from convnext.errors import InputError


def read_folder(folder: Path, val_fraction: float, training: bool) -> Listing:
    """The images under `folder`, by class folder.

    With `train/`: classes are its folders, and `val/` (or valid, validation, test: the first present) is held out.
    Without a held-out folder, or without `train/`, a fraction of each class is held out by a hash of the path
    relative to the class folders' parent. A held-out folder alone is read as "val". With `training`, a class
    without images in train is an error.
    """
    train = folder / "train"
    held_out = next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)
    if train.is_dir() and held_out:
        entries, classes = _read_part(train, "train")
        val_entries, val_classes = _read_part(held_out, "val")
        entries += val_entries
        extra = [name for name in val_classes if name not in classes]
        if extra and training:
            raise InputError(f"{held_out}: classes that {train} lacks: {_names(extra)}")
        classes = in_class_order((*classes, *val_classes))
    elif held_out and set(_subfolders(folder)) <= set(HELD_OUT):
        if training:
            raise InputError(f"{folder}: there is {held_out.name}/ but no train/ beside it")
        entries, classes = _read_part(held_out, "val")
    else:
        root = train if train.is_dir() else folder
        found, classes = _read_part(root, "train")
        keys = [Path(entry.source).relative_to(root).as_posix() for entry in found]
        splits = hold_out(keys, [entry.labels[0] for entry in found], val_fraction)
        entries = [entry._replace(split=split) for entry, split in zip(found, splits, strict=True)]
    if training:
        trained = {entry.labels[0] for entry in entries if entry.split == "train"}
        bare = [name for name in classes if name not in trained]
        if bare:
            raise InputError(f"{folder}: classes without any image to train on: {_names(bare)}")
    return Listing(entries, classes)


def read_unlabelled(folder: Path) -> Listing:
    """All images under `folder`, flat or nested, without labels, to train on."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    entries = [Entry(str(path), (), "train") for path in find_images(folder)]
    if not entries:
        raise InputError(f"{folder}: no images in this folder or below")
    return Listing(entries, ())


def _read_part(folder: Path, split: str) -> tuple[list[Entry], tuple[str, ...]]:
    classes = in_class_order(_subfolders(folder))
    if not classes:
        layout = "expected a folder per class, as in DATA/train/cat/1.jpg and DATA/val/cat/2.jpg, or DATA/cat/1.jpg"
        what = "images lie directly inside" if find_images(folder) else "no class folders inside"
        raise InputError(f"{folder}: {what if any(folder.iterdir()) else 'empty folder'}; {layout}")
    entries = [Entry(str(path), (name,), split) for name in classes for path in find_images(folder / name)]
    if not entries:
        raise InputError(f"{folder}: no images in its folders {_names(list(classes))}")
    return entries, classes


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
