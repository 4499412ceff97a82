"""Program that measures the memory of training steps on batches of growing size (`train.batch_size` starts it)."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from convnext.errors import InputError
from convnext.runs.directory import Run
from convnext.runtime.device import pick_device
from convnext.runtime.memory import Memory
from convnext.tasks.build import build_task
from convnext.tasks.registry import find_task
from convnext.train.batch_size import MemoryTrial, is_enough
from convnext.train.trainer import Trainer

TRIAL_STEPS = 2
"""Steps of a trial: the optimizer's memory is there from the second on."""


def run_trials(asked: dict[str, Any]) -> None:
    """Print a `MemoryTrial` after each, as JSON, until they are enough."""
    given, parent = asked["given"], os.getppid()
    memory = Memory(pick_device(str(given.get("device", "auto"))))
    # The program that waits for this one counts as taken: what it leaves free is what loading validation images takes.
    limit = memory.limit() // (1 if memory.device.type == "cuda" else asked["processes"])
    trials: list[MemoryTrial] = []
    config = find_task(asked["task"]).config().override({"accumulate": given.get("accumulate", 1)})
    batch = max(2, config.accumulate)
    options = {name: value for name, value in given.items() if name != "hours"}  # unknown before a step's time is known
    while (not trials or not is_enough(trials)) and os.getppid() == parent:
        images = make_steps(asked, {**options, "batch_size": batch, "compile": False})
        trials.append(MemoryTrial(batch, memory.peak(), limit, images))
        print(json.dumps(trials[-1]._asdict()), flush=True)
        gc.collect()  # a trainer and what belongs to it name each other
        batch *= 4 if trials[-1].peak < limit / 4 else 2


def make_steps(asked: dict[str, Any], given: dict[str, Any]) -> int:
    """Make `TRIAL_STEPS` steps of a run with these options; returns the number of training images."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        task = build_task(find_task(asked["task"]), asked["data"], out, given, asked["recipe"], False)
        trainer = Trainer(task, Run(out))
        trainer.model.train()
        trainer.length.step = max(0, trainer.length.steps - TRIAL_STEPS)  # the last images may be the largest
        batch = next(iter(trainer.loader))
        for _ in range(TRIAL_STEPS):
            trainer.train_step(batch)
        return len(task.train)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    try:
        run_trials(json.load(sys.stdin))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
