"""`--batch-size auto`: the largest batch that fits into memory, from steps on smaller ones.

The steps are made in a program of its own, which leaves nothing behind in the memory of the one that trains, and may
end for want of it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any, NamedTuple

from convnext.errors import InputError
from convnext.runtime import distributed

log = logging.getLogger("convnext")

USED = 0.8
"""Share of the memory that is used: measured steps differ by some percent, and evaluation and reports need theirs."""
GROWTH = 2**27
"""Bytes that one trial takes more than the one before, which tell what an image takes: ten times the noise."""
LARGEST_BATCH = 4096
"""Largest batch size of a process that is tried."""


class MemoryTrial(NamedTuple):
    """Peak memory of steps on a batch, the memory there is, both in bytes, and the number of training images."""

    batch: int
    peak: int
    limit: int
    images: int


def find_batch_size(task: str, data: str, given: dict[str, Any], recipe: str | None) -> int:
    """The largest batch for which a run of `task` with the options `given` has the memory, for all processes together.

    `InputError` where not even the smallest fits, or memory cannot be measured.
    """
    if distributed.rank() == 0:
        try:
            found: int | InputError = _measured(task, data, given, recipe)
        except InputError as error:
            found = error
    else:
        found = 0
    found = distributed.gather(found)[0]
    if isinstance(found, InputError):
        raise found
    return found


def _measured(task: str, data: str, given: dict[str, Any], recipe: str | None) -> int:
    processes = distributed.count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    asked = {"task": task, "data": data, "given": given, "recipe": recipe, "processes": here}
    own = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE")
    alone = {name: value for name, value in os.environ.items() if name not in own and "TORCHELASTIC" not in name}
    log.info("batch size auto: measuring memory")
    done = subprocess.run(
        [sys.executable, "-m", "convnext.train.batch_trials"],
        input=json.dumps(asked, default=str),
        capture_output=True,
        text=True,
        env=alone,
    )
    trials = [MemoryTrial(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if not trials:
        said = done.stderr.strip().splitlines()
        if done.returncode == 2 and said:
            raise InputError(said[-1])
        if done.returncode > 0 and said and "memory" not in said[-1].lower():  # as MemoryError and torch's own say
            raise InputError(f"memory could not be measured: {said[-1]}")
        raise InputError("not even the smallest batch fits into memory: take a smaller model or --image-size")
    size = largest(trials, processes=processes)
    last = trials[-1]
    log.info(
        "batch size %d: %.1f of %.1f GiB of memory, by steps on %d images",
        size, memory_of(trials, size // processes) / 2**30, last.limit / 2**30, last.batch,
    )  # fmt: skip
    return size


def memory_of(trials: list[MemoryTrial], batch: int) -> float:
    """Bytes that a batch takes, on the line through the last two trials; one trial tells for its own size and below."""
    if len(trials) == 1:
        return trials[0].peak * max(1.0, batch / trials[0].batch)
    first, last = trials[-2:]
    each = max(last.peak - first.peak, 1) / (last.batch - first.batch)
    return last.peak + each * (batch - last.batch)


def largest(trials: list[MemoryTrial], *, processes: int = 1) -> int:
    """The largest batch of all processes within `USED` of the memory: even, from 16 on in eights."""
    last = trials[-1]
    size = last.batch
    while size < min(LARGEST_BATCH, -(-last.images // processes)) and memory_of(trials, size + 1) <= USED * last.limit:
        size += 1
    while size > trials[0].batch and memory_of(trials, size) > USED * last.limit:
        size -= 1
    step = 8 if size >= 16 else 2
    return max(size // step * step, trials[0].batch) * processes


def is_enough(trials: list[MemoryTrial]) -> bool:
    """Whether the memory of larger batches is known."""
    last = trials[-1]
    if last.peak >= USED * last.limit or last.batch >= min(LARGEST_BATCH, last.images):
        return True
    return len(trials) > 1 and last.peak - trials[-2].peak >= GROWTH
