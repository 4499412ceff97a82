"""Images of one part of a data set, each a file with a name, and what a task knows of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self, cast


class NamedImage(Protocol):
    """An image: the file it lies in, and its name relative to the data."""

    @property
    def file(self) -> Path: ...
    @property
    def key(self) -> str: ...


class ImageFileSet:
    """Images of one part; an immutable dataclass with this field, of each image a `NamedImage`."""

    images: tuple[Any, ...]

    @property
    def sources(self) -> list[str]:
        """Files of the images."""
        return [str(image.file) for image in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, count: int) -> Self:
        """At most `count` of them, evenly spaced."""
        return self.take(range(0, len(self), -(-len(self) // count)))

    def take(self, places: Sequence[int]) -> Self:
        """The set of the images at some places, in that order; an image may come several times."""
        return self._with(self.images[place] for place in places)

    def joined(self, others: Sequence[Self]) -> Self:
        """The images of this and of other parts, which have the same classes."""
        return self._with(image for each in (self, *others) for image in each.images)

    def _with(self, images: Iterable[NamedImage]) -> Self:
        changed: Any = replace(cast(Any, self), images=tuple(images))
        return changed
