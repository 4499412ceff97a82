"""Drawing what was found on a copy of an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convnext.inference.arrays import pixels_of_classes

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


def index_picture(labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    """A picture whose pixels are the numbers of a label map `[H, W]`: with a colour each, or of 16 bits for more than
    256 classes."""
    if len(palette) > 256:
        return Image.fromarray(labels.astype(np.uint16))
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette([value for colour in palette for value in colour])
    return picture


def draw_objects(image: Image.Image, objects: Sequence[Drawn]) -> Image.Image:
    """A copy of an RGB image with masks, boxes, labels and scores; each object has a colour of its own."""
    pixels = np.array(image.convert("RGB"))
    palette = colours(len(objects))
    for each, colour in zip(objects, palette, strict=True):
        if each.mask is not None:
            inside = each.mask
            pixels[inside] = ((1 - OPACITY) * pixels[inside] + OPACITY * np.array(colour)).astype(np.uint8)
    drawn = Image.fromarray(pixels)
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


def draw_labels(image: Image.Image, labels: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """A copy of an RGB image under the colours of its label map `[H, W]`, and below it what they mean.

    The legend names the classes that are there, the largest first. Labels that are no class have no colour.
    """
    pixels = np.array(image.convert("RGB"))
    palette = np.array(colours(len(classes)))
    there = labels < len(classes)
    if labels.dtype.kind == "i":
        there &= labels >= 0
    painted = (1 - OPACITY) * pixels[there] + OPACITY * palette[labels[there]]
    pixels[there] = painted.astype(np.uint8)
    named = list(pixels_of_classes(labels[there]))
    size = max(10, max(image.size) // 40)
    font = ImageFont.load_default(size)
    widths = [size + 6 + round(font.getlength(classes[i])) + size for i in named]
    places, x, y = [], size // 2, size // 2
    for width in widths:
        if x > size and x + width > image.width:
            x, y = size // 2, y + round(1.5 * size)
        places.append((x, y))
        x += width
    drawn = Image.new("RGB", (image.width, image.height + y + 2 * size), "white")
    drawn.paste(Image.fromarray(pixels))
    pen = ImageDraw.Draw(drawn)
    for i, (left, top) in zip(named, places, strict=True):
        top += image.height
        pen.rectangle([left, top, left + size, top + size], fill=tuple(palette[i].tolist()))
        pen.text((left + size + 6, top - 2), classes[i], fill="black", font=font)
    return drawn
