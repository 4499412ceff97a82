"""Starts a training in all the processes there are."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from convnext.errors import Stopped
from convnext.runs.directory import Run, refuse_occupied
from convnext.runs.lock import locked
from convnext.runs.resume import resolve_resume
from convnext.runtime import distributed
from convnext.runtime.device import pick_device
from convnext.tasks.base import Task
from convnext.tasks.card.about import read_about
from convnext.train.batch_size import find_batch_size
from convnext.train.tracking import require_tracker
from convnext.train.trainer import Trainer

log = logging.getLogger("convnext")

Build = Callable[[str, Path, dict[str, Any], str | None, bool], Task]
"""From data, run directory, given options, recipe and whether to resume to a task."""


def launch(
    task: str,
    build: Build,
    data: str,
    out: Path,
    given: dict[str, Any],
    *,
    recipe: str | None,
    resume: bool | str,
    overwrite: bool,
    began: float | None,
) -> dict[str, float]:
    """Train a task in all the processes there are; returns the final metrics, to the first of them.

    `resume` may be "auto": go on if there is something to go on from, else start.
    """
    with distributed.process_group(pick_device(given.get("device", "auto"))):
        resume, overwrite = resolve_resume(out, resume, overwrite)
        if given.get("batch_size") == "auto":
            given = {name: value for name, value in given.items() if name != "batch_size"}
            if not resume:
                refuse_occupied(out, overwrite=overwrite)  # before a minute of measuring, not after
                given["batch_size"] = find_batch_size(task, data, given, recipe)
        return train_task(build(data, out, given, recipe, resume), out, resume=resume, overwrite=overwrite, began=began)


def train_task(task: Task, out: Path, *, resume: bool, overwrite: bool, began: float | None = None) -> dict[str, float]:
    """Train `task` into the run directory `out`; returns the final metrics."""
    require_tracker(task.config.track)
    read_about(out, task.config.data)  # what is wrong with it is said before hours of training, not after
    with ExitStack() as held:
        if resume:
            run = Run.reopen(out)
            held.enter_context(locked(out))
            trainer = Trainer(task, run, resume=True, began=began)
        else:
            # before anything is written: weights that do not fit leave no trace
            trainer = Trainer(task, Run(out), began=began)
            held.enter_context(locked(out))
            if distributed.rank() == 0:
                Run.create(out, task.config, overwrite=overwrite, terms=trainer.terms)
                task.before_training(trainer.run)
                if (advice := task.advice()) is not None:
                    log.info(advice)
            distributed.wait()
        return fit_or_stop(trainer, out)


def fit_or_stop(trainer: Trainer, out: Path) -> dict[str, float]:
    """Train to the end; being interrupted from the keyboard is a `Stopped` that says what is kept."""
    try:
        return trainer.fit()
    except KeyboardInterrupt:
        hint = "continue with --resume" if trainer.run.can_resume() else "no checkpoint was written"
        raise Stopped(f"interrupted; {out} is kept: {hint}", signal.SIGINT) from None
