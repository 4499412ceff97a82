"""Training from Python: what `convnext pretrain` and `convnext train` do."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from convnext.runs.directory import Run
from convnext.runs.ending import Ending, read_ending
from convnext.tasks.build import build_task
from convnext.tasks.card.facts import training_seconds
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.registry import find_task
from convnext.train.launch import launch

log = logging.getLogger(__name__)

LONG_FOR_CARD = 400.0
"""Seconds of training from which a model's speed is measured at its end: that takes a twentieth of them at most."""

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


def pretrain(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Pre-train a network on images without labels (FCMAE). Arguments and errors are those of `train`."""
    return train(find_task("pretrain"), data, out=out, **options)


def train_classifier(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train an image classifier. Arguments and errors are those of `train`."""
    return train(find_task("classify"), data, out=out, **options)


def train_detector(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train a detector of objects. Arguments and errors are those of `train`."""
    return train(find_task("detect"), data, out=out, **options)


def train_depth_estimator(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train a depth estimator. Arguments and errors are those of `train`."""
    return train(find_task("depth"), data, out=out, **options)


def train_segmenter(data: str | Path, *, out: str | Path, **options: Any) -> TrainingResult:
    """Train a segmenter. Arguments and errors are those of `train`."""
    return train(find_task("segment"), data, out=out, **options)
