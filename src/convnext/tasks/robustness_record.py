"""The file of measurements of robustness: written line by line, so that an interrupted command goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from convnext.errors import InputError
from convnext.storage.files import whole_file, writing

MEASUREMENTS_FILE = "robustness.jsonl"
"""File of the measurements, a line each; the first says what they depend on."""


class CorruptedMetric(NamedTuple):
    """A metric of a source under a corruption at a severity; severity 0 of "clean" are images as they are."""

    source: str
    corruption: str
    severity: int
    metric: str
    value: float


class Record:
    """Measurements in a file, a line each, from which an interrupted command goes on.

    Args:
        path: the file.
        settings: what they depend on; other ones in the file are refused.
        overwrite: begin anew.
    """

    def __init__(self, path: Path, settings: dict[str, Any], overwrite: bool) -> None:
        self.path = path
        self.found: dict[tuple[str, str, int], CorruptedMetric] = {}
        lines = [] if overwrite or not path.exists() else path.read_text().splitlines()
        read = [value for line in lines if (value := parsed_line(line)) is not None]
        if read and read[0] != settings:
            raise InputError(f"{path} holds measurements of something else; give another folder, or --overwrite")
        for values in read[1:]:
            self.keep(CorruptedMetric(**values))
        with whole_file(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in [settings, *read[1:]]))

    def keep(self, row: CorruptedMetric) -> None:
        """Know a measurement."""
        self.found[row.source, row.corruption, row.severity] = row

    def add(self, row: CorruptedMetric) -> None:
        """Know a measurement, and write it."""
        self.keep(row)
        with writing(self.path), open(self.path, "a") as file:
            file.write(json.dumps(row._asdict()) + "\n")


def settings_in(folder: Path) -> dict[str, Any]:
    """Settings of the robustness measurements in a folder, among them `data`, `split` and `images`; empty if the folder
    has no measurements."""
    path = folder / MEASUREMENTS_FILE
    if not path.is_file():
        return {}
    with open(path) as file:
        return parsed_line(file.readline()) or {}


def parsed_line(line: str) -> dict[str, Any] | None:
    """A line of JSON; None for one that was cut off."""
    try:
        return json.loads(line)
    except ValueError:
        return None
