"""Decisions by what mistakes cost: a table of costs, and the decision that is expected to cost least."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convnext.errors import InputError
from convnext.printing import quoted


class Costs(NamedTuple):
    """Cost of each decision for images of each true class.

    Args:
        decisions: their names, most often those of the classes, and maybe others such as "ask".
        matrix: float64 `[classes, decisions]`.
    """

    decisions: list[str]
    matrix: np.ndarray

    def cheapest(self, probabilities: np.ndarray) -> np.ndarray:
        """Places of the decisions `[M]` that are expected to cost least at these probabilities `[M, classes]`."""
        return (probabilities @ self.matrix).argmin(1)


def read_costs(path: Path, classes: Sequence[str]) -> Costs:
    """A CSV table: a row for each true class, which its first column names, and a column for each decision.

    `InputError` for a file that cannot be read, rows that are not the classes, or cells that are not numbers.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            head, *lines = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    decisions, rows = head[1:], {line[0]: line[1:] for line in lines}
    if not decisions:
        raise InputError(f"{path}: the first line names no decisions")
    for names, which in (
        ([name for name in classes if name not in rows], "no row for the class"),
        ([name for name in rows if name not in set(classes)], "the model has no class"),
    ):
        if names:
            raise InputError(f"{path}: {which} {quoted(names[0])}")
    if len(rows) < len(lines):
        raise InputError(f"{path}: a class has two rows")
    matrix = np.empty((len(classes), len(decisions)))
    for place, name in enumerate(classes):
        try:
            costs = [float(cell) for cell in rows[name]]
        except ValueError:
            costs = []
        if len(costs) != len(decisions):
            raise InputError(
                f"{path}: the row of {quoted(name)} is not {len(decisions)} numbers, one for each decision"
            )
        matrix[place] = costs
    if not np.isfinite(matrix).all():
        raise InputError(f"{path}: a cost is not a finite number")
    return Costs(decisions, matrix)
