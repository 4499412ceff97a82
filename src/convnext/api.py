"""Training from Python: what `convnext pretrain`, `convnext train` and `convnext cross-validate` do."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from convnext.config import SupervisedConfig
from convnext.errors import InputError, Stopped
from convnext.printing import to_json
from convnext.runs.directory import Run, is_run
from convnext.runs.ending import Ending, read_ending
from convnext.runs.resume import refuse_changes, refuse_other_fold
from convnext.runs.summary import summarise_run
from convnext.storage.files import whole_file
from convnext.tasks.build import build_task
from convnext.tasks.card.facts import training_seconds
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.folds import measure_folds
from convnext.tasks.origin import origin_of_model
from convnext.tasks.recipes import given_config
from convnext.tasks.registry import find_task
from convnext.train.launch import launch

log = logging.getLogger("convnext")

LONG_FOR_CARD = 400.0
"""Seconds of training from which a model's speed is measured at its end: that takes a twentieth of them at most."""

RESULT = "cross_validation.json"
"""File with the figures of a cross-validation."""

Resume = bool | Literal["auto"]


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training: run directory, final metrics and weight files.

    Args:
        run: the run directory.
        metrics: final metrics by name; empty in all processes but the first.
        weights: file of the last epoch's weights, averaged ones if the run averages.
        best: file of the weights of the best evaluated epoch; None where no metric says which is best.
        reached: the most important metrics in words, and on how many images they were measured; empty in all processes
            but the first.
        weakest: where the model is worst, in words; likewise.
        licence: of the weights, where it restricts their use: that of those the training started from; likewise.
    """

    run: Path
    metrics: dict[str, float]
    weights: Path
    best: Path | None
    reached: str
    weakest: str
    licence: str


def train(
    task: TaskDefinition,
    data: str | Path,
    *,
    out: str | Path,
    recipe: str | None = None,
    resume: Resume = False,
    overwrite: bool = False,
    began: float | None = None,
    **options: Any,
) -> TrainingResult:
    """Train a task on data into the run directory `out`.

    Args:
        task: one of `convnext.tasks.registry.TASKS`.
        data: what the task's command takes.
        out: the run directory to write.
        recipe: a name of `convnext recipes`; without, one that suits the data.
        resume: go on from the run's last checkpoint; "auto": or start, if there is none.
        overwrite: replace an existing run.
        began: when the option `hours` begins to count, by `time.monotonic`; None: now.
        options: values that stand for the recipe's, by their names in `config.json`.

    Returns:
        The run's files and final metrics, of which all processes but the first know the files alone.

    Raises:
        InputError: something given cannot work, or the run cannot go on.
        Stopped: a signal said so; the run can be resumed.
    """
    build = partial(build_task, task)
    how: dict[str, Any] = {"recipe": recipe, "resume": resume, "overwrite": overwrite, "began": began}
    metrics = launch(task.name, build, str(data), Path(out), options, **how)
    run = Run(Path(out))
    if metrics and training_seconds(run) >= LONG_FOR_CARD and run.read_config().get("hours") is None:
        # A process of its own, whose memory is the model's: of what training left behind nothing would be known.
        command = [sys.executable, "-m", "convnext", "card", str(run.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            log.warning("the model's speed is not in its card: %s", (done.stderr.splitlines() or ["no reason"])[-1])
    ending = read_ending(run.path) if metrics else Ending()  # which the first process alone has written
    best = run.best if run.best.is_file() else None
    return TrainingResult(run.path, metrics, run.weights, best, **vars(ending))


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
        folds: how many there are; all are trained alike.
        recipe: as `train` takes it.
        overwrite: begin anew, replacing runs that are there.
        options: as `train` takes them; `group_by` and `stratify` say how folds are made.

    Returns:
        What `tasks.folds.measure_folds` does.

    Raises:
        InputError: something given cannot work, in any of the folds.
        Stopped: a signal said so.
    """
    data, out = str(data), Path(out)
    _refuse_folds(task, folds, options)
    runs = [out / f"fold-{number}" for number in range(1, folds + 1)]
    given = [{**options, "fold": f"{number}/{folds}"} for number in range(1, folds + 1)]
    known = {name: value for name, value in options.items() if name != "batch_size"}  # which may be "auto"
    done = [not overwrite and is_run(run) and summarise_run(run).state == "ended" for run in runs]
    counts: dict[Path, int] = {}  # training images of the folds that are begun
    for number, (run, own) in enumerate(zip(runs, given, strict=True), start=1):
        if done[number - 1]:
            stored = task.config.from_dict(Run(run).read_config())
            refuse_changes(run, stored, stored.override({**known, "fold": own["fold"]}))
            with _quiet(True):
                counts[run], read = task.read(dataclasses.replace(stored, data=data))
            if read.origin != origin_of_model(run, task.config):  # two folds could hold out one image
                raise InputError(
                    f"{run} has ended, and {data} is not what it was trained on, or has changed since: choose another "
                    "--out, or --overwrite"
                )
            continue
        with _quiet(number > 1):  # what is wrong with a fold is said before hours of training others
            config = given_config(task, {**known, "fold": own["fold"], "data": data}, recipe)
            images, _ = task.read(config)
        if not overwrite and is_run(run) and Run(run).can_resume():
            counts[run] = images
    recipe = _refuse_mixed(task, counts, recipe, options, all_begun=len(counts) == folds)
    for number, (run, own) in enumerate(zip(runs, given, strict=True), start=1):
        if done[number - 1]:
            log.info("fold %d of %d: %s has ended", number, folds, run)
            continue
        log.info("fold %d of %d: %s", number, folds, run)
        try:
            train(task, data, out=run, recipe=recipe, resume=False if overwrite else "auto", overwrite=overwrite, **own)
        except Stopped as stop:
            raise Stopped(f"stopped in fold {number} of {folds}; the same command goes on", stop.signal) from None
        recipe = recipe or Run(run).read_config()["recipe"]  # folds of a few images more would choose another
    first = task.config.from_dict(Run(runs[0]).read_config())
    found = measure_folds(runs, data, out, workers=first.workers, device=first.device)
    with whole_file(out / RESULT) as temporary:
        temporary.write_text(to_json(found, indent=2) + "\n", encoding="utf-8", errors="surrogateescape")
    return found


def _refuse_folds(task: TaskDefinition, folds: int, options: dict[str, Any]) -> None:
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


def _refuse_mixed(
    task: TaskDefinition, counts: dict[Path, int], recipe: str | None, options: dict[str, Any], *, all_begun: bool
) -> str | None:
    """Name of the recipe of folds that are begun, else what was given.

    `InputError` where they differ among each other, or from what `recipe` and `options` make of those that follow.
    `counts` has the training images of each.
    """
    stored = {run: task.config.from_dict(Run(run).read_config()) for run in counts}
    if not stored:
        return recipe
    first = next(iter(stored.values()))
    auto = options.get("batch_size") == "auto"
    known = {name: value for name, value in options.items() if not (auto and name == "batch_size")}
    name = recipe or first.recipe
    wanted = dataclasses.replace(first.override(known), recipe=name) if all_begun else given_config(task, known, name)
    for run, config in stored.items():
        own = dataclasses.replace(wanted, batch_size=config.batch_size) if auto else wanted
        refuse_other_fold(run, config, own, counts[run])
    return first.recipe


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Inside, nothing is logged if so asked."""
    before, log.disabled = log.disabled, quiet or log.disabled
    try:
        yield
    finally:
        log.disabled = before


def pretrain(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Pre-train a network on images without labels (FCMAE).

    Args:
        data: what `convnext pretrain` takes.
        out: the run directory to write.
        options: those of `convnext pretrain`, by their names in `config.json`: `epochs=50`.

    Keyword Args:
        recipe: a name of `convnext recipes`; without, one that suits the data.
        resume: True to go on from the run's last checkpoint; "auto": or start, if there is none.
        overwrite: True to replace an existing run.

    Returns:
        The run's files and final metrics, of which all processes but the first know the files alone.

    Raises:
        InputError: something given cannot work, or the run cannot go on.
        Stopped: a signal said so; the run can be resumed.
    """
    return train(find_task("pretrain"), data, out=out, **options)


def train_classifier(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train an image classifier.

    Args:
        data: what `convnext train classify` takes.
        out: the run directory to write.
        options: those of `convnext train classify`, by their names in `config.json`: `epochs=50`.

    Keyword Args:
        recipe: a name of `convnext recipes`; without, one that suits the data.
        resume: True to go on from the run's last checkpoint; "auto": or start, if there is none.
        overwrite: True to replace an existing run.

    Returns:
        The run's files and final metrics, of which all processes but the first know the files alone.

    Raises:
        InputError: something given cannot work, or the run cannot go on.
        Stopped: a signal said so; the run can be resumed.
    """
    return train(find_task("classify"), data, out=out, **options)


def train_detector(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train a detector of objects.

    Args:
        data: what `convnext train detect` takes.
        out: the run directory to write.
        options: those of `convnext train detect`, by their names in `config.json`: `epochs=50`.

    Keyword Args:
        recipe: a name of `convnext recipes`; without, one that suits the data.
        resume: True to go on from the run's last checkpoint; "auto": or start, if there is none.
        overwrite: True to replace an existing run.

    Returns:
        The run's files and final metrics, of which all processes but the first know the files alone.

    Raises:
        InputError: something given cannot work, or the run cannot go on.
        Stopped: a signal said so; the run can be resumed.
    """
    return train(find_task("detect"), data, out=out, **options)


def train_depth_estimator(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train a depth estimator.

    Args:
        data: what `convnext train depth` takes.
        out: the run directory to write.
        options: those of `convnext train depth`, by their names in `config.json`: `epochs=50`.

    Keyword Args:
        recipe: a name of `convnext recipes`; without, one that suits the data.
        resume: True to go on from the run's last checkpoint; "auto": or start, if there is none.
        overwrite: True to replace an existing run.

    Returns:
        The run's files and final metrics, of which all processes but the first know the files alone.

    Raises:
        InputError: something given cannot work, or the run cannot go on.
        Stopped: a signal said so; the run can be resumed.
    """
    return train(find_task("depth"), data, out=out, **options)


def train_segmenter(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train a segmenter.

    Args:
        data: what `convnext train segment` takes.
        out: the run directory to write.
        options: those of `convnext train segment`, by their names in `config.json`: `epochs=50`.

    Keyword Args:
        recipe: a name of `convnext recipes`; without, one that suits the data.
        resume: True to go on from the run's last checkpoint; "auto": or start, if there is none.
        overwrite: True to replace an existing run.

    Returns:
        The run's files and final metrics, of which all processes but the first know the files alone.

    Raises:
        InputError: something given cannot work, or the run cannot go on.
        Stopped: a signal said so; the run can be resumed.
    """
    return train(find_task("segment"), data, out=out, **options)
