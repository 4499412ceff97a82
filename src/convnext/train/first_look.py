"""Draws the first training batch and validation images, with labels, before the first step."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from convnext.reports.sheet import draw_sheet
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.tasks.base import Task

log = logging.getLogger("convnext")


def draw_first_look(task: Task, run: Run, parts: Iterable[tuple[int, Any]]) -> None:
    """Draw the first of a batch's parts into `batches.png`, so that labels that do not fit are seen in time."""
    if distributed.rank() == 0 and (groups := task.first_look(next(iter(parts))[1])):
        draw_sheet(groups, run.batches)
        log.info("%s shows what is trained on", run.batches)
