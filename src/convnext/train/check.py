"""A check of data from Python and the command line, for which classifiers may be trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from convnext.errors import InputError
from convnext.tasks.check import DataCheck, LabelSearch, check_data


def check(
    data: str | Path,
    *,
    task: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    labels: bool = False,
    source: str | Path | None = None,
    recipe: str | None = None,
    **options: Any,
) -> DataCheck:
    """Look at every image of a data set, and find what is wrong with it. Nothing is changed or deleted.

    Args:
        data: what a task's training takes.
        task: its name, as in `convnext train`, or "pretrain"; without, the one that data of this form are for.
        out: a folder for `index.html`, `problems.csv`, `exclude.csv` and `check.json`.
        workers: processes that read images; without, one for each core.
        labels: look for labels that may be wrong too, which takes a model.
        source: weights that answer which labels may be wrong: of images a run, a pre-training or published ones, of
            objects and regions a run; without, classifiers are trained on parts of the images. By a run's rules labels
            are also read, such as a segmenter's ignored number.
        recipe: of those trainings; without, that for small data, for 20 epochs.
        options: of the task's training, such as `format` or `val_fraction`.

    Raises:
        InputError: training would refuse the data, or labels of this task are not looked at.
    """
    if recipe is not None and not labels:
        raise InputError("recipe is of the trainings that find wrong labels: give labels=True too")
    source = None if source is None else str(source)
    search: LabelSearch | None = None
    if labels:
        from convnext.train.wrong_labels import find_wrong_labels  # which loads all that trains

        search = partial(find_wrong_labels, source=source, recipe=recipe)
    return check_data(data, task=task, out=out, workers=workers, labels=search, source=source, **options)
