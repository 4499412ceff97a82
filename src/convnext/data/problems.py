"""Counts of what is wrong with a data set, as lines for people."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

log = logging.getLogger("convnext")

EXAMPLES_NAMED = 3
EXAMPLES_KEPT = 1000

UNUSABLE = "images that cannot be used"
NOT_READ = "images that cannot be read"
TOO_LARGE = "images of more pixels than are read"


@dataclass
class _Counted:
    """Counts findings by kind, and keeps the first examples of each."""

    found: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= EXAMPLES_KEPT:
            self.found.setdefault(kind, []).append(example)

    def lines(self) -> list[str]:
        return [
            f"{kind}: {self.counts[kind]} ({', '.join(found[:EXAMPLES_NAMED])})" for kind, found in self.found.items()
        ]


@dataclass
class Problems:
    """Faults found while a data set was read: what was left out, and what was used all the same."""

    left_out: _Counted = field(default_factory=_Counted)
    taken: _Counted = field(default_factory=_Counted)

    def add(self, kind: str, example: str) -> None:
        """Count something that is left out."""
        self.left_out.add(kind, example)

    def note(self, kind: str, example: str) -> None:
        """Count something that is used in part, or by an assumption."""
        self.taken.add(kind, example)

    def lines(self) -> list[str]:
        """One line for each kind of thing that was left out."""
        return self.left_out.lines()

    def notes(self) -> list[str]:
        """One line for each kind of thing that was used all the same."""
        return self.taken.lines()


def log_left_out(data: object, faults: Problems) -> None:
    """Say in the log what was left out of some data."""
    for line in faults.lines():
        log.warning("%s: left out %s", data, line)


def log_problems(data: object, faults: Problems) -> None:
    """Say in the log what was wrong with some data: what was used all the same, and what was left out."""
    for line in faults.notes():
        log.warning("%s: %s", data, line)
    log_left_out(data, faults)
