"""Facts of a run for its card (`facts.json`): what was trained on, how long, and what was measured beside metrics."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
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


def are_own_figures(run: Run, metrics: Mapping[str, Any]) -> bool:
    """Whether metrics are those of a run's end (`result.json`), but for what another engine or batch changes."""
    own = {n: v for n, v in parsed(read_text(run.path / "result.json")).items() if isinstance(v, int | float)}
    return bool(own) and all(
        isclose(value, metrics.get(name, float("nan")), rel_tol=1e-3, abs_tol=1e-3) for name, value in own.items()
    )
