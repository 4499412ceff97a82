"""Words on a task's models that a card cannot take from the run's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CardWords:
    """A task's part of a card.

    Args:
        title: heading.
        architecture: what is built on the network, after its name: "with a linear layer for 10 classes".
        papers: names of `reports.citations.BIBTEX`.
        explained: what the metrics are.
        intended: use that follows from what it was trained on.
        out_of_scope: use for which it was not made.
        snippet: lines of Python that run in the run's folder, on `photo.jpg`.
        pictures: file names of the run and their texts.
        unit: things that are counted by class.
        measure: the column of `per_class.csv` by which the weakest classes come first.
        trained_on: what of an image it was trained on; empty for square crops of the option `image_size`.
    """

    title: str
    architecture: str
    papers: Sequence[str]
    explained: str
    intended: str
    out_of_scope: str
    snippet: str
    pictures: Sequence[tuple[str, str]]
    unit: str = "images"
    measure: str = ""
    trained_on: str = ""
