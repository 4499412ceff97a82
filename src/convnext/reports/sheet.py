"""Sheets of captioned pictures, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from convnext.printing import printable
from convnext.storage.files import whole_file

ACROSS = 4  # pictures
CELL = 240  # pixels that a picture is fitted into
SHEET_GAP, TEXT_SIZE, TITLE_SIZE = 8, 13, 18  # pixels


class PictureGroup(NamedTuple):
    """Pictures under one title, each with a caption of some lines, or none."""

    title: str
    pictures: Sequence[tuple[Image.Image, str]]


def draw_sheet(groups: Sequence[PictureGroup], path: Path) -> None:
    """Write groups of pictures below each other into a PNG file; no file where there are no pictures."""
    groups = [group for group in groups if group.pictures]
    if not groups:
        return
    font, bold = ImageFont.load_default(TEXT_SIZE), ImageFont.load_default(TITLE_SIZE)
    placed: list[tuple[Image.Image, str, int, int]] = []
    titles, top = [], SHEET_GAP
    for title, pictures in groups:
        titles.append((title, top))
        top += TITLE_SIZE + SHEET_GAP
        for first in range(0, len(pictures), ACROSS):
            row = [(fitted(picture), caption) for picture, caption in pictures[first : first + ACROSS]]
            placed += [
                (picture, text, SHEET_GAP + i * (CELL + SHEET_GAP), top) for i, (picture, text) in enumerate(row)
            ]
            lines = max(len(caption.split("\n")) if caption else 0 for _, caption in row)
            top += max(picture.height for picture, _ in row) + lines * (TEXT_SIZE + 3) + SHEET_GAP
        top += SHEET_GAP
    sheet = Image.new("RGB", (ACROSS * (CELL + SHEET_GAP) + SHEET_GAP, top), "white")
    pen = ImageDraw.Draw(sheet)
    for title, y in titles:
        pen.text((SHEET_GAP, y), title, fill="black", font=bold)
    for picture, caption, x, y in placed:
        sheet.paste(picture, (x, y))
        text = "\n".join(shortened(line) for line in readable(caption).split("\n"))
        pen.text((x, y + picture.height + 2), text, fill="black", font=font, spacing=2)
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def fitted(picture: Image.Image) -> Image.Image:
    """Resize a picture to fit into a cell of the sheet; small pictures are enlarged without smoothing."""
    scale = min(CELL / picture.width, CELL / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BILINEAR)


def readable(text: str) -> str:
    """Replace characters of a caption that cannot be drawn."""
    return printable(text.encode("utf-8", "replace").decode())


def shortened(line: str) -> str:
    """Shorten a caption's line to the width of a picture."""
    font = ImageFont.load_default(TEXT_SIZE)
    while line and font.getlength(line) > CELL:
        line = line[:-2] + "…"
    return line
