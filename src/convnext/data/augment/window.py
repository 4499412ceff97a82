"""Parts of images that augmentation takes."""

from __future__ import annotations

from dataclasses import dataclass

from convnext.data.images.whole_image import Size


@dataclass(frozen=True)
class Window:
    """A rectangle of an image, and the size it is scaled to."""

    top: int
    left: int
    height: int
    width: int
    size: Size
