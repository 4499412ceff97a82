"""Reading images one by one and a folder for results, for `convnext predict` with all models but classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic

from PIL import Image

from convnext.errors import ImageError, InputError
from convnext.inference.base import Predictor
from convnext.inference.reading import Prepared, read_ahead
from convnext.printing import complain, status_of, to_json
from convnext.storage.files import make_folder, short


class Readable(Generic[Prepared]):
    """Images that can be read, in order; those that cannot are named on stderr.

    Args:
        images: (name, what `read_image` takes) each.
        predictor: what reads them.
        prepare: called with each image, in threads.
        as_json: print a line `{"image", "error"}` on stdout too for what cannot be read.
    """

    def __init__(
        self,
        images: list[tuple[str, Any]],
        predictor: Predictor,
        prepare: Callable[[Image.Image], Prepared],
        *,
        as_json: bool,
    ) -> None:
        self.images, self.predictor, self.prepare, self.as_json, self.bad = images, predictor, prepare, as_json, 0

    @contextmanager
    def reading(self) -> Iterator[Iterator[tuple[int, str, Image.Image, Prepared]]]:
        """Inside, an iterator over (number from 1, name, image, what `prepare` made of it) of what can be read."""
        sources = (source for _, source in self.images)
        with read_ahead(sources, self.predictor.read, lambda image: (image, self.prepare(image))) as results:
            yield self._readable(results)

    def _readable(
        self, results: Iterator[tuple[Image.Image, Prepared] | ImageError]
    ) -> Iterator[tuple[int, str, Image.Image, Prepared]]:
        for number, ((name, _), result) in enumerate(zip(self.images, results, strict=True), start=1):
            if not isinstance(result, ImageError):
                yield number, name, *result
                continue
            self.bad += 1
            complain(result)
            if self.as_json:
                print(to_json({"image": name, "error": str(result)}))

    def status(self) -> int:
        """How the command ends: 0, 1 if some image was unreadable, 2 if all were."""
        return status_of(self.bad, len(self.images))


class Outputs:
    """A folder for files about `images`, (name, source) each. `InputError` if it cannot be made, or holds images.

    `ends` are those of the files of one image, after its stem.
    """

    def __init__(self, folder: Path, images: Iterable[tuple[str, Any]], ends: Sequence[str] = (".png",)) -> None:
        self.folder, self.ends, self.taken = folder, ends, set[str]()
        make_folder(folder)
        places = {Path(source).resolve().parent for _, source in images if isinstance(source, str | Path)}
        if folder.resolve() in places:
            raise InputError(f"{folder} holds images to look at; choose another folder to write to")

    def stem(self, name: str) -> str:
        """File name stem for an image's results: two images of one name, in two folders, have two, and no file of one
        image has the name of another's (`a-overlay.png` of `a.jpg` and of `a-overlay.jpg`)."""
        stem = first = short(Path(name).stem) if name != "-" else "stdin"
        number = 1
        while not self.taken.isdisjoint(f"{stem}{end}" for end in self.ends):
            number += 1
            stem = f"{first}-{number}"
        self.taken.update(f"{stem}{end}" for end in self.ends)
        return stem
