"""The tables of README.md and docs/results.md, from the figures in `results/`: one JSON file a claim.

    python benchmarks/tables.py [--check]

A table stands between the lines `<!-- results/NAME.json -->` and `<!-- end -->`, and is written anew from that file.
With `--check` nothing is written: what differs is named, and the exit status is 1. A file has these keys:

title     what the figures say
command   what makes them
commit    of the code that was measured, "+changes" if it was changed since; null where that is not known
machine   processor and GPU
date      of the measurement, or of the commit that first wrote the figures down
seed      a number, several, or null
versions  of torch and of the peers
columns   of each its `name`, and how it is shown: `head` (in the table, where that is not the name), `digits` (behind
          the point, for all rows or for each), `thousands` (with commas), `best` ("max" or "min": that figure is
          bold), `inside` (it stands in the cell to its left, so: " ({})")
rows      a list for each, with a number, text or null for each column
note      what must be known to read the figures
section   of docs/results.md, if the figures stand in its prose and are no table
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
MARKED = re.compile(r"<!-- results/(\w+)\.json -->\n(.*?)<!-- end -->\n", re.DOTALL)

Column = dict[str, Any]
Row = Sequence[Any]


def number(value: float, column: Column, row: int) -> str:
    """A figure as its column shows it; without `digits` as the file has it."""
    digits = column.get("digits")
    digits = digits[row] if isinstance(digits, list) else digits
    comma = "," if column.get("thousands") else ""
    return format(value, comma if digits is None else f"{comma}.{digits}f")


def figures(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[str]]:
    """All cells as text, one for each column."""
    best = []
    for i, column in enumerate(columns):
        values = [row[i] for row in rows if isinstance(row[i], int | float)]
        best.append({"max": max, "min": min}[column["best"]](values) if column.get("best") and values else None)
    texts = []
    for r, row in enumerate(rows):
        cells = []
        for column, value, top in zip(columns, row, best, strict=True):
            text = number(value, column, r) if isinstance(value, int | float) else value or ""
            cells.append(f"**{text}**" if top is not None and value == top else text)
        texts.append(cells)
    return texts


def line(cells: Sequence[str]) -> str:
    """A row of markdown."""
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def table(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """Lines of markdown, the head first."""
    heads = [column.get("head", column["name"]) for column in columns if "inside" not in column]
    lines = [line(heads), "|" + "---|" * len(heads)]
    for texts in figures(columns, rows):
        cells: list[str] = []
        for column, text in zip(columns, texts, strict=True):
            if "inside" not in column:
                cells.append(text)
            elif text:
                cells[-1] += column["inside"].format(text)
        lines.append(line(cells))
    return lines


def read(name: str) -> dict[str, Any]:
    """The file of a claim."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def dump(result: dict[str, Any]) -> str:
    """JSON with a line for each column and row."""
    parts = []
    for key, value in result.items():
        if key in ("columns", "rows"):
            inner = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in value)
            text = f"[\n{inner}\n ]"
        else:
            text = json.dumps(value, ensure_ascii=False)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def marked(name: str) -> str:
    """A table with the lines around it."""
    result = read(name)
    lines = "\n".join(table(result["columns"], result["rows"]))
    return f"<!-- results/{name}.json -->\n\n{lines}\n\n<!-- end -->\n"


def written(text: str) -> str:
    """A page with its tables written anew."""
    return MARKED.sub(lambda match: marked(match[1]), text)


def differences(text: str) -> list[str]:
    """Names of the claims whose tables in a page are not those made from their files."""
    return [match[1] for match in MARKED.finditer(text) if match[0] != marked(match[1])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table differs")
    args = parser.parse_args()
    found = 0
    for page in PAGES:
        text = page.read_text()
        for name in differences(text):
            found += 1
            print(f"{page.relative_to(ROOT)}: the table differs from results/{name}.json")
        if not args.check:
            page.write_text(written(text))
    return int(args.check and found > 0)


if __name__ == "__main__":
    sys.exit(main())
