"""What `convnext predict` does alike for detectors and segmenters: images one by one, and a folder for results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from convnext.data.images.decode import read_image
from convnext.errors import ImageError, InputError
from convnext.printing import complain, to_json
from convnext.storage.files import short


class Readable:
    """Iterates over (number, name, image) of what can be read of `images`, and says on stderr what cannot."""

    def __init__(self, images: list[tuple[str, Any]], *, as_json: bool, white: int) -> None:
        self.images, self.as_json, self.white, self.bad = images, as_json, white, 0

    def __iter__(self) -> Iterator[tuple[int, str, Image.Image]]:
        for number, (name, source) in enumerate(self.images, start=1):
            try:
                image = read_image(source, white=self.white)
            except ImageError as error:
                self.bad += 1
                complain(error)
                if self.as_json:
                    print(to_json({"image": name, "error": str(error)}))
                continue
            yield number, name, image

    def status(self) -> int:
        """How the command ends: 0, 1 if some image was unreadable, 2 if all were."""
        return status_of(self.bad, len(self.images))


def status_of(bad: int, count: int) -> int:
    """Exit status of a command on images: 0, 1 if some were unreadable, 2 if all were; of several it says how many."""
    if bad and count > 1:
        complain(f"{bad} of {count} images could not be read")
    return 0 if not bad else 2 if bad == count else 1


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
        stem = first = short(Path(name).stem) if name != "-" else "stdin"
        number = 1
        while stem in self.taken:
            number += 1
            stem = f"{first}-{number}"
        self.taken.add(stem)
        return stem
