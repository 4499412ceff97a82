"""All tasks: one line each."""

from __future__ import annotations

from convnext.errors import InputError, nearest
from convnext.tasks.classify import Classify
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.depth import Depth
from convnext.tasks.detect import Detect
from convnext.tasks.pretrain.fcmae import Fcmae
from convnext.tasks.segment import Segment

TASKS: tuple[TaskDefinition, ...] = (Fcmae(), Classify(), Detect(), Segment(), Depth())


def find_task(name: str) -> TaskDefinition:
    """The task called `name`. `InputError` with the nearest names if there is none."""
    for task in TASKS:
        if task.name == name:
            return task
    raise InputError(f"unknown task '{name}'; {nearest(name, [task.name for task in TASKS])}")
