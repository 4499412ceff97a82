"""Starts a training in all the processes there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from convnext import processes
from convnext.device import pick_device
from convnext.run import resolve_resume
from convnext.tasks.task import Task
from convnext.train.trainer import train

Build = Callable[[str, Path, dict[str, Any], str | None, bool], Task]
"""From data, run directory, given options, recipe and whether to resume to a task."""


def launch(
    build: Build,
    data: str,
    out: Path,
    given: dict[str, Any],
    *,
    recipe: str | None,
    resume: bool | str,
    overwrite: bool,
) -> dict[str, float]:
    """Train in all the processes there are; returns the final metrics, to the first of them.

    `resume` may be "auto": go on if there is something to go on from, else start.
    """
    with processes.joined(pick_device(given.get("device", "auto"))):
        resume, overwrite = resolve_resume(out, resume, overwrite)
        return train(build(data, out, given, recipe, resume), out, resume=resume, overwrite=overwrite)
