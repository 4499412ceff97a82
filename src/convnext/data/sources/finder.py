"""Finding the images and the parts of a data set, however its annotations and folders name them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from convnext.data.sources.image_files import find_images, is_hidden
from convnext.data.splits import UNDIVIDED, held_out_part, part_of_name

IMAGE_FOLDERS = ("images", "image", "img", "imgs", "jpegimages", "data", "obj_train_data", "default")
"""Names of folders that hold images, in any case."""

Located = TypeVar("Located")


class ImageFinder:
    """Finds image files by the names that annotations give them: with slashes of either kind, relative or absolute.

    A name is looked for in `folder`, in the folder above it, and then anywhere below `root` by its last parts, as files
    move after they were annotated: there, not in folders of another part than `part`.
    """

    def __init__(self, folder: Path, root: Path | None = None, part: str | None = None) -> None:
        self.folder, self.root, self.part = folder, folder if root is None else root, part

    def __call__(self, name: str) -> Path | None:
        name = _slashes(name)
        if not name:
            return None
        for path in (self.folder / name, self.folder.parent / name):  # an absolute name is itself
            if _is_file(path):
                return path
        parts = _nfc(name).split("/")
        found = self._below.get(parts[-1], [])
        for count in range(1, len(parts) + 1):
            if len(found) < 2:
                break
            found = [path for path in found if _nfc(path.as_posix()).split("/")[-count:] == parts[-count:]]
        return found[0] if len(found) == 1 else None

    def of_stem(self, stem: str) -> Path | None:
        """The image file called so but for its suffix, in `folder` or else alone of that name below `root`."""
        found = self._stems.get(_nfc(stem), [])
        near = [path for path in found if path.parent == self.folder]
        return (near or found)[0] if len(near or found) == 1 else None

    def key(self, file: Path, name: str = "") -> str:
        """Name of a file relative to the data, by which it may be held out; `name` is what the annotations call it."""
        if Path(_slashes(name)).is_absolute():
            return file.name
        for above in (self.folder, self.root):
            if file.is_relative_to(above):
                return file.relative_to(above).as_posix()
        return file.name

    def hint(self, name: str) -> str:
        """A file name for an error message, with a file of the same name in other case if there is one."""
        path = self.folder / _slashes(name)
        try:
            other = {p.name.lower(): p.name for p in path.parent.iterdir()}.get(path.name.lower())
        except (OSError, ValueError):
            other = None
        return f"{name}, where there is {other}" if name and other else name

    @cached_property
    def _below(self) -> Mapping[str, list[Path]]:
        names: dict[str, list[Path]] = defaultdict(list)
        for path in find_images(self.root) if self.root.is_dir() else []:
            parts = {part_of_name(name) for name in path.relative_to(self.root).parts[:-1]} - {None}
            if self.part is None or not parts or self.part in parts:
                names[_nfc(path.name)].append(path)
        return names

    @cached_property
    def _stems(self) -> Mapping[str, list[Path]]:
        stems: dict[str, list[Path]] = defaultdict(list)
        for name, paths in self._below.items():
            stems[os.path.splitext(name)[0]] += paths
        return stems


def child(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder or file in `folder` that has one of these names, in any case; of several, the first name's."""
    there = {path.name.lower(): path for path in children(folder)}
    return next((there[name] for name in names if name in there), None)


def children(folder: Path) -> list[Path]:
    """Files and folders in a folder, sorted, but for hidden ones; none if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except (OSError, ValueError):
        return []


def part_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder that are parts, by the part's name; "trainval" is train and val, undivided."""
    found: dict[str, Path] = {}
    for path in children(folder):
        part = UNDIVIDED if path.name.lower() == "trainval" else part_of_name(path.name)
        if part is not None and path.is_dir():
            found.setdefault(part, path)
    return found


def part_said(stem: str) -> str | None:
    """The part that a word of a file's name says, as in `instances_train2017`; None where none does."""
    words = re.split(r"[^a-z]+", stem.lower())
    if "trainval" in words:
        return UNDIVIDED
    return next((part for word in words if (part := part_of_name(word)) is not None), None)


def settled_parts(found: Mapping[str, Located]) -> dict[str, Located]:
    """Parts in their order; train alone does not say what is held out, and nor does trainval, which has val in it."""
    if "train" in found:
        parts = {part: found[part] for part in ("train", "val", "test") if part in found}
        return parts if held_out_part(parts) is not None else {UNDIVIDED: found["train"]}
    known = (UNDIVIDED, "test") if UNDIVIDED in found else ("val", "test")
    return {part: found[part] for part in known if part in found}


def _slashes(name: str) -> str:
    return name.replace("\\", "/").replace("\0", "")


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
