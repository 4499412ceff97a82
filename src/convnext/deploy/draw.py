"""Drawing what was found on a copy of an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

OPACITY = 0.45


class Drawn(NamedTuple):
    """An object: its name, score or None, x0, y0, x1, y1, and bool mask `[H, W]` or None."""

    label: str
    score: float | None
    box: list[float]
    mask: np.ndarray | None


def colours(count: int) -> list[tuple[int, int, int]]:
    """So many colours, neighbours far apart in hue."""
    hues = [(0.6180339887 * i + 0.05) % 1 for i in range(count)]
    shades = [colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues]
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in shades]


def draw_objects(image: Image.Image, objects: Sequence[Drawn], *, boxes: bool = True) -> Image.Image:
    """A copy of an RGB image with masks, boxes, labels and scores; each object has a colour of its own."""
    pixels = np.array(image.convert("RGB"))
    palette = colours(len(objects))
    for each, colour in zip(objects, palette, strict=True):
        if each.mask is not None:
            inside = each.mask
            pixels[inside] = ((1 - OPACITY) * pixels[inside] + OPACITY * np.array(colour)).astype(np.uint8)
    drawn = Image.fromarray(pixels)
    if not boxes:
        return drawn
    pen = ImageDraw.Draw(drawn)
    side = max(image.size)
    size = max(10, side // 60)
    font = ImageFont.load_default(size)
    for each, colour in zip(objects, palette, strict=True):
        pen.rectangle(each.box, outline=colour, width=max(1, side // 500))
        text = each.label if each.score is None else f"{each.label} {each.score:.2f}"
        x, y = each.box[0], max(0.0, each.box[1] - size - 2)
        pen.rectangle(pen.textbbox((x, y), text, font=font), fill=colour)
        pen.text((x, y), text, fill="black", font=font)
    return drawn
