"""Images that are decoded for training once it is known how large they have to be."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from convnext.data.images.costly import reason_to_refuse
from convnext.data.images.decode import MAX_PIXELS, WHITE, decode_image, upright_size
from convnext.data.images.jpeg import decode_plain, plain_size
from convnext.errors import ImageError


class EncodedImage:
    """The content of an image file. `ImageError` for a header that cannot be read; `name` is for errors.

    Args:
        content: the file's bytes.
        mode: "RGB" or "L".
        name: what errors call it.
        white: the value of 16-bit images that is white.
    """

    def __init__(self, content: bytes, mode: str, *, name: str, white: int = WHITE) -> None:
        if reason := reason_to_refuse(content):
            raise ImageError(f"{name}: {reason}")
        self.content, self.mode, self.name, self.white = content, mode, name, white
        plain = plain_size(content) if mode == "RGB" else None
        self.is_plain = plain is not None and plain[0] * plain[1] <= MAX_PIXELS
        self.size: tuple[int, int] = plain if plain and self.is_plain else upright_size(content, name=name)
        """Width and height, upright."""

    def decode(self, reduction: int = 1) -> Image.Image | Tensor:
        """The image; of a plain JPEG uint8 `[3, H, W]`, which is sooner there. `ImageError` if it is damaged.

        JPEG files are decoded `reduction` times smaller, 1, 2, 4 or 8, which saves most of the time.
        """
        if self.is_plain:
            pixels = decode_plain(self.content, self.size, reduction)
            if pixels is not None:
                return pixels
        return decode_image(self.content, self.mode, name=self.name, reduction=reduction, white=self.white)


@dataclass(frozen=True)
class DecodedImage:
    """An image in memory in the place of an `EncodedImage`."""

    image: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.size

    def decode(self, reduction: int = 1) -> Image.Image:
        """The image, whatever `reduction` would allow."""
        return self.image
