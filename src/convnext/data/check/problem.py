"""The form of what is wrong with a data set, whoever found it: pages, tables and `exclude.csv` are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ProblemKind(NamedTuple):
    """A kind of problem: its heading on a page, and a sentence on how to read it and what to do."""

    title: str
    reading: str


PROBLEM_KINDS: dict[str, ProblemKind] = {
    "unreadable": ProblemKind("Files that cannot be read", "Training leaves them out; fetch or save them anew."),
    "leak": ProblemKind(
        "Copies in two parts",
        "A model that has learnt an image knows its copy: what is measured on it is no measure. Leave out the one that "
        "is trained on.",
    ),
    "two-classes": ProblemKind(
        "Copies in two classes",
        "One of the labels is wrong, or the image shows both classes. Leave out what should not be there.",
    ),
    "copy": ProblemKind(
        "Copies in one part", "They weigh an image more than once, and tell nothing new. One of them is enough."
    ),
    "sequence": ProblemKind(
        "Sequences in two parts",
        "Frames of a video and shots of a burst are nearly copies. Keep what belongs together in one part.",
    ),
    "annotation": ProblemKind("Annotations that are wrong", "Boxes, outlines and label maps to look at and draw anew."),
    "label": ProblemKind(
        "Labels that may be wrong",
        "A model that learnt from other images says another class. It is often wrong itself: look, and change the "
        "label or leave the image out.",
    ),
    "object": ProblemKind(
        "Objects that may be wrong",
        "The detector says something else than the annotation. It is often wrong itself: look, and draw anew.",
    ),
    "region": ProblemKind(
        "Regions of label maps that may be wrong",
        "The segmenter is sure of another class. It is often wrong itself: look, and draw anew.",
    ),
    "odd": ProblemKind("Odd files", "They can be read, and differ from all others in a way that is seldom meant."),
    "small-class": ProblemKind("Classes too small", "From so few images little can be learnt, or measured."),
}
"""Kinds by their names, in the order in which they are shown."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set.

    Args:
        kind: a name of `PROBLEM_KINDS`.
        part: "train", "val" or "test"; where it is between two parts, both, as "train, val".
        paths: the images that show it, relative to the data with "/"; none where no image does.
        words: one sentence for people.
        score: how sure or how bad it is, from 0 to 1; worst first is highest first.
        leave_out: those of `paths` without which the problem is gone.
        label: the class that is annotated, where the problem is one of labels.
        suggested: the class that should stand there instead, likewise.
        box: x0, y0, x1, y1 of the object or region in the first of `paths`, in pixels.
    """

    kind: str
    part: str
    paths: tuple[str, ...]
    words: str
    score: float = 1.0
    leave_out: tuple[str, ...] = ()
    label: str = ""
    suggested: str = ""
    box: tuple[float, float, float, float] | None = None
