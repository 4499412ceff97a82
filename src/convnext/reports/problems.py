"""Tables of what is wrong with a data set: all of it, and the files that a person may leave out."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from convnext.data.check.problem import Problem
from convnext.reports.tables import Table
from convnext.storage.files import whole_file

PROBLEM_COLUMNS = ("number", "kind", "part", "path", "leave_out", "score", "label", "suggested", "box", "words")
EXCLUDED = ("path", "reason", "of")
"""Columns of `exclude.csv`."""


def write_problems(problems: Sequence[Problem], path: Path) -> None:
    """Write a row for each image of each problem; those of one problem have one number."""
    rows = (
        {
            "number": number,
            "kind": problem.kind,
            "part": problem.part,
            "path": image,
            "leave_out": int(image in problem.leave_out),
            "score": problem.score,
            "label": problem.label,
            "suggested": problem.suggested,
            "box": "" if problem.box is None else " ".join(f"{value:g}" for value in problem.box),
            "words": problem.words,
        }
        for number, problem in enumerate(problems, start=1)
        for image in problem.paths or ("",)
    )
    Table(path.parent, path.name).write(rows, PROBLEM_COLUMNS)


def exclusions(problems: Sequence[Problem]) -> Iterator[tuple[str, str, str]]:
    """Each file that may be left out, once, with the kind of the first problem that says so, and the image that it is a
    copy of, or nothing."""
    seen: set[str] = set()
    for problem in problems:
        kept = next((image for image in problem.paths if image not in problem.leave_out), "")
        for image in problem.leave_out:
            if image not in seen:
                seen.add(image)
                yield image, problem.kind, kept


def write_exclusions(problems: Sequence[Problem], path: Path) -> None:
    """Write `exclude.csv`, which `--exclude` of the training commands reads; paths are relative to the data."""
    # Paths are written as they are: whoever reads them has to find the files.
    with (
        whole_file(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(EXCLUDED)
        writer.writerows(exclusions(problems))
