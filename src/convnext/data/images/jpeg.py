"""Plain JPEG files straight to arrays: the pixels that Pillow gives, which puts much around the same library."""

from __future__ import annotations

import simplejpeg
import torch
from torch import Tensor


def plain_size(content: bytes) -> tuple[int, int] | None:
    """Width and height, if this is a JPEG file in colour and nothing in it may say that it has to be turned."""
    if content[:3] != b"\xff\xd8\xff" or b"Exif\0" in content or b"tiff:Orientation" in content:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (width, height) if colours == "YCbCr" else None


def decode_plain(content: bytes, size: tuple[int, int], factor: int) -> Tensor | None:
    """uint8 `[3, H, W]` of a plain JPEG of that size, so many times smaller; None if it is damaged."""
    width, height = (max(1, side // factor) for side in size)
    try:
        return torch.from_numpy(simplejpeg.decode_jpeg(content, min_width=width, min_height=height)).permute(2, 0, 1)
    except ValueError:
        return None
