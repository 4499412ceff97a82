"""What is wrong with some data, and what was assumed of it, for people."""

from __future__ import annotations

from dataclasses import dataclass, field

EXAMPLES = 3


@dataclass
class _Counted:
    """Of each kind how often it was found, and its first examples."""

    found: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= EXAMPLES:
            self.found.setdefault(kind, []).append(example)

    def lines(self) -> list[str]:
        return [f"{kind}: {self.counts[kind]} ({', '.join(found)})" for kind, found in self.found.items()]


@dataclass
class Faults:
    """What was found wrong in some data: what had to be left out, and what could be taken all the same."""

    left_out: _Counted = field(default_factory=_Counted)
    taken: _Counted = field(default_factory=_Counted)

    def add(self, kind: str, example: str) -> None:
        """Something that is left out."""
        self.left_out.add(kind, example)

    def note(self, kind: str, example: str) -> None:
        """Something that is taken, by an assumption or in part."""
        self.taken.add(kind, example)

    def lines(self) -> list[str]:
        """A line for each kind that was left out."""
        return self.left_out.lines()

    def notes(self) -> list[str]:
        """A line for each kind that was taken all the same."""
        return self.taken.lines()
