"""A table of what was measured, one row an image or object, as a CSV file in a folder of the user's."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convnext.storage.files import make_folder, whole_file


class Table:
    """A CSV file `name` in `folder`. `InputError` at once where the folder cannot be written, not after measuring."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        make_folder(folder)

    def write(self, rows: Iterable[dict[str, Any]], columns: Iterable[str] | None = None) -> None:
        """Write all rows; without `columns`, those of the first row."""
        rows = list(rows)
        names = list(columns) if columns is not None else list(rows[0]) if rows else []
        with (
            whole_file(self.path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=names)
            writer.writeheader()
            writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)


def harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, behind an apostrophe: class names come from anyone."""
    is_formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return "'" + value if is_formula and not re.fullmatch(r"[+-]?[\d.]+", value) else value
