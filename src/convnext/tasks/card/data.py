"""Description of images for a card: counts, sizes and forms."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from convnext.data.image_set import ImageSet
from convnext.data.images.decode import read_bytes

MOST_SIZED = 200
"""Images of a part, at most, whose sizes are read."""
FORMS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WebP"}


def describe_part(part: Any) -> dict[str, Any]:
    """Images of a part: "images", their "sizes" ([width, height] of the smallest, the median and the largest by area),
    and counts of "forms"."""
    places = range(0, len(part), max(1, -(-len(part) // MOST_SIZED)))
    sizes = sorted((size for place in places if (size := stored_size(part, place))), key=lambda size: size[0] * size[1])
    forms = Counter(form_of(source) for source in part.sources)
    found: dict[str, Any] = {"images": len(part), "forms": dict(forms.most_common(5))}
    if sizes:
        found["sizes"] = [list(sizes[0]), list(sizes[len(sizes) // 2]), list(sizes[-1])]
    return found


def form_of(source: str) -> str:
    """Form of an image file by its name."""
    suffix = Path(source).suffix.lower()
    return FORMS.get(suffix, suffix.removeprefix(".").upper()[:8] or "in memory")


def stored_size(part: Any, place: int) -> tuple[int, int] | None:
    """Width and height of an image as it lies in its file; None if it cannot be read."""
    if isinstance(part, ImageSet) and part.images is not None:
        height, width = part.images[place].shape[:2]
        return width, height
    try:
        with Image.open(io.BytesIO(content_of(part, place))) as image:
            return image.size
    except Exception:  # damaged headers raise nearly anything
        return None


def content_of(part: Any, place: int) -> bytes:
    """An image's bytes."""
    if isinstance(part, ImageSet):
        return part.content(place) if part.images is None else part.images[place].tobytes()
    return read_bytes(part.sources[place])
