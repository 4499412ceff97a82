"""The folder that `convnext predict --out` writes to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convnext.errors import InputError


class Outputs:
    """A folder for files about `images`, (name, source) each. `InputError` if it cannot be made, or holds images."""

    def __init__(self, folder: Path, images: Iterable[tuple[str, Any]]) -> None:
        self.folder, self.taken = folder, set[str]()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
        places = {Path(source).resolve().parent for _, source in images if isinstance(source, str | Path)}
        if folder.resolve() in places:
            raise InputError(f"{folder} holds images to look at; choose another folder to write to")

    def stem(self, name: str) -> str:
        """What to call the files about an image: two images of one name, in two folders, have two."""
        stem = first = Path(name).stem if name != "-" else "stdin"
        number = 1
        while stem in self.taken:
            number += 1
            stem = f"{first}-{number}"
        self.taken.add(stem)
        return stem
