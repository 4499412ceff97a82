"""Cross-validation: a run for each fold of the data, and the answers of all of them about what they held out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convnext.api import train
from convnext.config import SupervisedConfig
from convnext.errors import InputError, Stopped
from convnext.printing import to_json
from convnext.runs.directory import Run, is_run
from convnext.runs.resume import refuse_changes
from convnext.runs.summary import summarise_run
from convnext.storage.files import whole_file
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.folds import measure_folds

log = logging.getLogger("convnext")

RESULT = "cross_validation.json"


def cross_validate(
    task: TaskDefinition,
    data: str | Path,
    *,
    out: str | Path,
    folds: int = 5,
    recipe: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train a run for each fold of some data, `out/fold-1` and on, each on what the others hold out, and measure all.

    Begun again after it was stopped, it goes on where it was: runs that have ended are kept, and the one that was
    stopped is resumed.

    Args:
        task: one of `convnext.tasks.registry.TASKS` that learns from labels.
        data: what the task's command takes; its own train and val are divided anew, and a test part is left alone.
        out: the folder of the runs; `images.csv` (of detectors `objects.csv` too) holds the answer about every image of
            the run that was not trained on it, and `cross_validation.json` what this function returns.
        folds: how many there are.
        recipe: as `api.train` takes it.
        overwrite: begin anew, replacing runs that are there.
        options: as `api.train` takes them; `group_by` and `stratify` say how folds are made.

    Returns:
        What `tasks.folds.measure_folds` does.

    Raises:
        InputError: something given cannot work, in any of the folds.
        Stopped: a signal said so.
    """
    data, out = str(data), Path(out)
    _refuse(task, folds, options)
    runs = [out / f"fold-{number}" for number in range(1, folds + 1)]
    given = [{**options, "fold": f"{number}/{folds}"} for number in range(1, folds + 1)]
    known = {name: value for name, value in options.items() if name != "batch_size"}  # which may be "auto"
    done = [not overwrite and is_run(run) and summarise_run(run).state == "ended" for run in runs]
    for number, (run, own) in enumerate(zip(runs, given, strict=True), start=1):
        if done[number - 1]:
            stored = task.config.from_dict(Run(run).read_config())
            refuse_changes(run, stored, stored.override({**known, "fold": own["fold"]}))
            continue
        with _quiet(number > 1):  # what is wrong with a fold is said before hours of training others
            config = task.config().override({**known, "fold": own["fold"], "data": data})
            task.read(config)
    for number, (run, own) in enumerate(zip(runs, given, strict=True), start=1):
        if done[number - 1]:
            log.info("fold %d of %d: %s has ended", number, folds, run)
            continue
        log.info("fold %d of %d: %s", number, folds, run)
        try:
            train(task, data, out=run, recipe=recipe, resume=False if overwrite else "auto", overwrite=overwrite, **own)
        except Stopped as stop:
            raise Stopped(f"stopped in fold {number} of {folds}; the same command goes on", stop.signal) from None
    first = task.config.from_dict(Run(runs[0]).read_config())
    found = measure_folds(runs, data, out, workers=first.workers, device=first.device)
    with whole_file(out / RESULT) as temporary:
        temporary.write_text(to_json(found, indent=2) + "\n", encoding="utf-8", errors="surrogateescape")
    return found


def _refuse(task: TaskDefinition, folds: int, options: dict[str, Any]) -> None:
    if not issubclass(task.config, SupervisedConfig):
        raise InputError(f"`convnext {task.command}` learns without labels: nothing can be held out")
    if folds < 2:
        raise InputError(f"--folds must be at least 2, not {folds}")
    for name in ("fold", "time_column"):
        if options.get(name) is not None:
            raise InputError(
                f"{name} holds out one part of the data, and a cross-validation each in turn: leave it out"
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"cross-validate is one process; torchrun trains a fold: `convnext {task.command} --fold K/N`")


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Inside, nothing is logged if so asked."""
    before, log.disabled = log.disabled, quiet or log.disabled
    try:
        yield
    finally:
        log.disabled = before
