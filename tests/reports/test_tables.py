"""Tables of figures that spreadsheets open, of class names that anyone may have given."""

from __future__ import annotations

import csv
from pathlib import Path

from convnext.reports.card import escaped
from convnext.reports.tables import Table


def test_names_are_no_formulas(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "@SUM(1)", "-x", "-1", "+2.5", "plain, with comma"]
    Table(tmp_path, "t.csv").write([{"class": name, "count": -3} for name in names])
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [
        "'=cmd|' /C calc'!A0",
        "'@SUM(1)",
        "'-x",
        "-1",
        "+2.5",
        "plain, with comma",
    ]
    assert {row["count"] for row in rows} == {"-3"}


def test_names_are_no_markdown() -> None:
    assert escaped("<img src=x> [a](b) `c` *d*") == r"\<img src=x\> \[a\]\(b\) \`c\` \*d\*"
    assert escaped("two\nlines\x1b") == r"two lines\\x1b"
    assert escaped("Café 梨") == "Café 梨"
