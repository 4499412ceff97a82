"""Sliding windows over an image."""

from __future__ import annotations


def starts(length: int, window: int, stride: int) -> list[int]:
    """Positions at which windows begin that cover a length; the last ends with it."""
    last = max(0, length - window)
    return [*range(0, last, stride), last]
