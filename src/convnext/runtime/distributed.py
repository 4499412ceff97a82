"""The processes of one run. `torchrun` starts several, each computing its share of every batch; else there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from convnext.runtime.device import make_current, process_backend

PROCESS_PATIENCE = timedelta(hours=2)
"""How long the others wait for one that evaluates or writes."""


def count() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among those of the run; 0 alone writes the run."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_split(model: object) -> bool:
    """Whether FSDP2 splits a model's parameters among the processes."""
    # Its module takes a second to import; where nobody has imported it, nothing is split.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Inside, the processes that `torchrun` started know of each other; without `torchrun`, nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or count() > 1:
        yield
        return
    # Checkpoints and lists of paths go through the CPU.
    make_current(device)
    dist.init_process_group(process_backend(device), timeout=PROCESS_PATIENCE)
    yield  # after an error the group is left alone: ending it would wait for the others
    dist.destroy_process_group()


def own_places(batch: int, rank: int, count: int) -> list[int]:
    """The places in a batch that process `rank` of `count` computes: some from the front, and as many from the back.

    Mixup pairs the first image with the last, the second with the last but one, and so on; this way the pairs, and with
    them the result, do not depend on the number of processes.
    """
    size = batch // count
    front, back = size // 2, size - size // 2
    first, last = rank * front, batch - (rank + 1) * back
    return [*range(first, first + front), *range(last, last + back)]


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return count() > 1 and (isinstance(error, dist.DistError) or "by peer" in str(error))


def all_sum(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    if count() > 1:
        dist.all_reduce(values)
    return values


def total_count(number: int) -> int:
    """The sum of every process's number; it goes through the CPU, so that no GPU is waited for."""
    return number if count() == 1 else int(all_sum(torch.tensor(number, device="cpu")))


def gather(value: Any) -> list[Any]:
    """Every process's value, in the order of their ranks."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Go on when all processes have come here."""
    if count() > 1:
        dist.barrier()
