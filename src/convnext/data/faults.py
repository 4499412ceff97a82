"""What is wrong with some data, for people."""

from __future__ import annotations

from dataclasses import dataclass, field

EXAMPLES = 3


@dataclass
class Faults:
    """What was found wrong: of each kind how often, and its first examples."""

    found: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= EXAMPLES:
            self.found.setdefault(kind, []).append(example)

    def lines(self) -> list[str]:
        """A line for each kind."""
        return [f"{kind}: {self.counts[kind]} ({', '.join(found)})" for kind, found in self.found.items()]
