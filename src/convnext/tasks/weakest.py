"""Chooses the classes with enough images or objects to be compared."""

from __future__ import annotations

from collections.abc import Sequence

ENOUGH = 10
"""Images or objects of a class that say how well it is answered, also where other classes have many more."""


def well_measured(counts: Sequence[int]) -> list[int]:
    """Places of the classes with at least `ENOUGH` images or objects, or half as many as the largest class; never one
    with none. Of small sets, where no class has `ENOUGH`, so the rarest are left out all the same."""
    least = min(ENOUGH, (max(counts, default=0) + 1) // 2)
    return [place for place, count in enumerate(counts) if count and count >= least]


def unmeasured(lacking: int, classes: int) -> str:
    """End of a sentence that says how many classes have no image or object; empty where all have some."""
    return f"; not measured: {lacking:,} of {classes:,} classes" if lacking else ""
