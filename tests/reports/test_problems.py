"""Tables of a data set's problems."""

from __future__ import annotations

import csv
from pathlib import Path

from convnext.data.check.problem import Problem
from convnext.reports.problems import write_exclusions, write_problems

TRAINED = ("train/1.png", "train/=2.png")
PROBLEMS = [
    Problem("unreadable", "train", ("train/a, b.png",), "zero bytes", 1.0, ("train/a, b.png",)),
    Problem("leak", "train, val", ("val/1.png", *TRAINED), "mirrored", 0.9, TRAINED),
    Problem("two-classes", "train", ("train/1.png", "train/3.png"), "in 'a', 'b'", 0.8, ("train/1.png", "train/3.png")),
    Problem("small-class", "val", (), "0 images of 'a' in val"),
]


def test_each_file_to_leave_out_is_listed_once_as_it_is_called(tmp_path: Path) -> None:
    write_exclusions(PROBLEMS, tmp_path / "exclude.csv")
    with open(tmp_path / "exclude.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path", "reason", "of"],
        ["train/a, b.png", "unreadable", ""],
        ["train/1.png", "leak", "val/1.png"],
        ["train/=2.png", "leak", "val/1.png"],
        ["train/3.png", "two-classes", ""],
    ]


def test_the_table_has_a_row_for_each_image(tmp_path: Path) -> None:
    write_problems(PROBLEMS, tmp_path / "problems.csv")
    with open(tmp_path / "problems.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "2", "2", "2", "3", "3", "4"]
    assert [row["leave_out"] for row in rows] == ["1", "0", "1", "1", "1", "1", "0"]
    assert rows[-1] | {"score": ""} == {
        "number": "4", "kind": "small-class", "part": "val", "path": "", "leave_out": "0", "score": "",
        "label": "", "suggested": "", "box": "",
        "words": "0 images of 'a' in val",
    }  # fmt: skip
