"""Answers out of fold: about every image by a model that was trained on the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from convnext.analysis.label_errors import divisions
from convnext.tasks.load import load
from convnext.tasks.supervised import SupervisedTask
from convnext.train.launch import train_task

log = logging.getLogger("convnext")


def answers_out_of_fold(
    build: Callable[[np.ndarray, np.ndarray], SupervisedTask], folds: np.ndarray
) -> Iterator[tuple[np.ndarray, Any]]:
    """Places `[n]` of the images of each fold, with the answers about them as the task's evaluator has them.

    The trainings' run directories are deleted. `InputError` as of `train_task`.

    Args:
        build: from places that are trained on and places that are answered about to a task.
        folds: of each image, from 0 (`stratified_folds`).
    """
    with TemporaryDirectory(prefix="convnext-") as folder:
        for number, (fitted, own) in enumerate(divisions(folds), 1):
            log.info("fold %d of %d: training on %d images, without %d", number, folds.max() + 1, len(fitted), len(own))
            task, run = build(fitted, own), Path(folder) / str(number)
            train_task(task, run, resume=False, overwrite=False)
            predictor = load(run, device=task.config.device, backend="torch")
            yield own, task.evaluator.answer(predictor, task.val_batches(predictor), task.val)
