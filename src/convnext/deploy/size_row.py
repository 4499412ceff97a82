"""One row of `convnext models --measure`, measured in a process of its own (`deploy.own_process`).

Imports nothing at its top that starts threads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from convnext.deploy.benchmark_row import CALLS, median_call
from convnext.deploy.own_process import answer_job
from convnext.errors import InputError


class MeasuredSize(NamedTuple):
    """A member of the family to measure; `device` and `precision` are as of `load`."""

    model: str
    image_size: int
    device: str
    precision: str
    threads: int


def measure_size(job: MeasuredSize, folder: Path) -> dict[str, Any]:
    """Measured values of a network with random weights by name: ms and images/s, and peak memory in MB at both batches.

    Memory is the process's own, PyTorch's included, or what PyTorch has of a GPU's. What does not fit into memory is
    said in `error`, beside what was measured before.
    """
    import torch

    from convnext.inference.backends.network import use_backend
    from convnext.models.classifier import create_model
    from convnext.runtime.device import DTYPES, keep_fp32, pick_device
    from convnext.runtime.memory import Memory, bound_memory

    torch.set_num_threads(job.threads)
    keep_fp32()
    device, found = pick_device(job.device), dict[str, Any]()
    try:
        memory = Memory(device)
    except InputError:  # not on this system
        memory = None
    free = bound_memory() if device.type == "cpu" else None
    count = 0
    try:
        torch.set_default_dtype(DTYPES[job.precision])  # a copy in fp32 would count as memory
        with device:
            model = create_model(job.model).eval()
        found["engine"] = use_backend(model, "torch", job.precision)  # type: ignore[arg-type]  # read from JSON
        with device, torch.inference_mode():
            for count, least in CALLS.items():
                images = torch.randn(count, 3, job.image_size, job.image_size)

                def call() -> None:
                    model(images)  # noqa: B023  # called in this turn of the loop
                    if device.type != "cpu":
                        torch.accelerator.synchronize()

                _, seconds = median_call(call, least)
                peak = None if memory is None else memory.peak() / 1e6
                if count == 1:
                    found |= {"latency_ms": 1000 * seconds, "memory_mb": peak}
                else:
                    found |= {"images_per_s": count / seconds, "batch_memory_mb": peak}
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise InputError(next(iter(str(error).splitlines()), "it cannot be computed")) from None
        left = "" if free is None else f", of which {free / 1e9:.2g} GB are free"
        found["error"] = f"{f'a batch of {count}' if count else 'it'} does not fit into memory{left}"
    return found


if __name__ == "__main__":
    answer_job(MeasuredSize, measure_size)
