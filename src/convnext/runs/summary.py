"""Runs at a glance, and what two of them differ in."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convnext.errors import InputError
from convnext.runs.directory import Run, is_run, parsed, read_text, task_of
from convnext.runs.ending import read_ending
from convnext.runs.lock import is_locked

log = logging.getLogger("convnext")

DEPTH = 3
"""Levels of folders in which runs are looked for."""
BESIDE = {"epoch", "step", "lr", "seconds", "images_per_second"}
"""Columns of `metrics.jsonl` that are no figures of the model."""


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run.

    Args:
        run: its folder.
        task: name of the task; None for runs of before, which do not say it.
        data: what it was trained on.
        model: name of the network.
        recipe: name of the recipe.
        epochs: finished ones, and all; None where the run's length is given in hours.
        hours: time of the training steps, without that of measuring, and without steps that were lost by stops.
        state: "ended", "training" (a program has it locked) or "stopped".
        metrics: of the run's end, else of the last epoch.
        options: all options by name.
        reached: the most important metrics in words, of the run's end; empty before, and of runs that do not say it.
        weakest: where the model is worst, likewise.
        licence: of its weights, where that restricts their use, likewise.
    """

    run: Path
    task: str | None
    data: str
    model: str
    recipe: str
    epochs: tuple[int, int | None]
    hours: float
    state: Literal["ended", "training", "stopped"]
    metrics: dict[str, Any]
    options: dict[str, Any]
    reached: str
    weakest: str
    licence: str


def summarise_run(path: Path) -> RunSummary:
    """The summary of a run. `InputError` for a folder that is none."""
    if not is_run(path):
        raise InputError(f"{path} is not a run")
    run = Run(path)
    options, rows = parsed(read_text(path / "config.json")), run.rows()
    done = rows[-1]["epoch"] if rows else 0
    result = parsed(read_text(path / "result.json"))
    last = {name: value for name, value in (rows[-1] if rows else {}).items() if name not in BESIDE}
    whole = run.weights.is_file() and (path / "README.md").is_file()  # the last that is written
    seconds = [row["seconds"] for row in rows if isinstance(row.get("seconds"), int | float)]
    return RunSummary(
        run=path,
        task=task_of(path),
        data=str(options["data"]),
        model=str(options["model"]),
        recipe=str(options["recipe"]),
        epochs=(done, options["epochs"] if options.get("hours") is None else None),
        hours=sum(seconds) / 3600,
        state="training" if is_locked(path) else "ended" if whole else "stopped",
        metrics=result or last,
        options=options,
        **vars(read_ending(path)),
    )


def find_runs(folder: Path) -> list[Path]:
    """The runs in a folder, at most `DEPTH` levels down, or the folder itself.

    Folders inside that cannot be read are left out, each with a line. `InputError` for a folder that cannot be read
    itself, is a file, or is not there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder" if folder.exists() else f"{folder}: no such folder")
    found, level = [], [folder]
    for _ in range(DEPTH + 1):
        inner: list[Path] = []
        for path in sorted(level):
            try:
                if is_run(path):
                    found.append(path)
                else:
                    inner += [each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")]
            except OSError as error:
                said = f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
                if path == folder:
                    raise InputError(said) from None
                log.warning("%s", said)
        level = inner
    return found


def compare_runs(first: Path, second: Path) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Differences of two runs: "options" and "metrics" by name, with both values, None where one run has none."""
    one, other = summarise_run(first), summarise_run(second)
    return {
        "options": _differences(one.options, other.options, all=False),
        "metrics": _differences(one.metrics, other.metrics, all=True),
    }


def _differences(one: dict[str, Any], other: dict[str, Any], *, all: bool) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*one, *other])
    pairs = {name: (one.get(name), other.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if all or pair[0] != pair[1]}
