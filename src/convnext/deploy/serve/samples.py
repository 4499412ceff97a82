"""Images that a page offers to try a model on."""

from __future__ import annotations

from pathlib import Path

MOST_SAMPLES = 24
SAMPLE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
"""Suffixes of image files that browsers show too."""


def samples_in(folder: Path) -> list[Path]:
    """The images in a folder, and not those in folders below, that a page can offer, by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SAMPLE_SUFFIXES and path.is_file()]
