"""Files that are made to cost: small, and minutes or gigabytes to decode. Refused by what their headers say."""

from __future__ import annotations

import re
from typing import Any

from convnext.errors import ImageError

MOST_SCANS = 100
"""Scans of a JPEG, at most: a progressive one has about ten, and each is a pass over all pixels."""
SLOW_BYTES = 8 * 2**20
"""Bytes of a PPM that Pillow decodes in Python, a number at a time, at most."""
_PPM_HEADER = re.compile(rb"P([1-6])((?:\s|#[^\n]*\n)+\d+){2}(?:(?:\s|#[^\n]*\n)+(\d+))?\s")


def reason_to_refuse(content: bytes) -> str | None:
    """Why a file is not decoded, as it would take far longer than its size promises; None if it is."""
    if content[:2] == b"\xff\xd8":
        scans = content.count(b"\xff\xda")  # the data between never hold this pair
        if scans > MOST_SCANS:
            return f"a JPEG of {scans} scans, the limit is {MOST_SCANS}; save it again"
    elif content[:1] == b"P" and content[1:2] in b"123456" and content[2:3].isspace():
        header = _PPM_HEADER.match(content[:4096])
        if header is None:
            return "damaged or unsupported image (no PPM header in its first 4096 bytes)"
        plain, most = header[1] in b"123", header[3]
        if len(content) > SLOW_BYTES and (plain or (header[1] in b"56" and most not in (b"255", b"65535"))):
            return "a large PPM written as text or with an unusual white; convert it to PNG"
    return None


def refuse_large_tiles(image: Any) -> None:
    """`ImageError` for an opened TIFF image whose tiles are far larger than it is."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322), tags.get(323)
    if isinstance(width, int) and isinstance(height, int) and width * height > 4 * image.width * image.height + 2**22:
        raise ImageError(f"damaged or unsupported image (tiles of {width}×{height} pixels)")
