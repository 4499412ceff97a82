"""Facts of a run for its card (`facts.json`): what was trained on, how long, and what was measured beside metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnext.runs.directory import Run, parsed, read_text

FACTS = "facts.json"


def add_facts(run: Run, facts: dict[str, Any]) -> None:
    """Add facts to those that are known of a run, or replace them."""
    run.write_json(FACTS, read_facts(run.path) | facts)


def read_facts(folder: Path) -> dict[str, Any]:
    """Facts of the run in `folder`; empty where it has none, as older runs."""
    return parsed(read_text(folder / FACTS))
