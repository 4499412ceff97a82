"""One row of `convnext benchmark`, measured in a process of its own (`deploy.own_process`).

Imports nothing at its top that starts threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from convnext.deploy.own_process import answer_job
from convnext.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_Result = TypeVar("_Result")

INPUTS, OUTPUTS = "inputs.npy", "outputs.npz"
"""Files of a row's folder, beside those of `deploy.own_process`: what is to be seen, and the outputs."""
WARM = 3
"""Calls before those that are timed: engines compile for a shape that comes again."""
CALLS = {1: 9, 16: 5}
"""Timed calls, at least, by the images of a batch."""
DURING = 1.0
"""Seconds of timed calls, at least."""


class MeasuredRow(NamedTuple):
    """A row to measure.

    `source`, `backend`, `precision` and `image_size` are as of `load` and `evaluate`; `data` is labelled, or None.
    `seconds` bounds the calls of each batch, and leaves out batches of which two would take longer; None does not.
    """

    source: str
    backend: str
    precision: str
    batches: list[int]
    threads: int
    image_size: int | None
    data: str | None
    seconds: float | None = None


def measure(job: MeasuredRow, folder: Path) -> dict[str, Any]:
    """Measured values of a row by name: seconds to load and of the first call, ms and images/s, memory in MB, metrics.

    The outputs for the inputs in `folder`, those of the last batch, are written there. Memory is the process's own at
    its peak, before metrics are measured.
    """
    import numpy as np
    import torch

    from convnext.runtime.memory import Memory
    from convnext.tasks.evaluate import evaluate
    from convnext.tasks.load import load

    torch.set_num_threads(job.threads)
    images = torch.from_numpy(np.load(folder / INPUTS))
    start = time.perf_counter()
    predictor = load(job.source, device="cpu", backend=job.backend, precision=job.precision)  # type: ignore[arg-type] # read from JSON
    found: dict[str, Any] = {"engine": predictor.backend, "load_s": time.perf_counter() - start}
    start = time.perf_counter()
    outputs = outputs_of(predictor, images[:1])
    found["first_s"] = time.perf_counter() - start
    most, seconds = inf if job.seconds is None else job.seconds, 0.0
    for count in job.batches:
        if 2 * count * seconds > most:
            break
        outputs, seconds = median_call(partial(outputs_of, predictor, images[:count]), CALLS[count], most)
        found |= {"latency_ms": 1000 * seconds} if count == 1 else {"images_per_s": count / seconds}
    np.savez(folder / OUTPUTS, *(each.numpy() for each in outputs))
    try:
        found["memory_mb"] = Memory(torch.device("cpu")).peak() / 1e6
    except InputError:  # not on this system
        found["memory_mb"] = None
    if job.data is not None:
        how: Any = {"backend": job.backend, "precision": job.precision, "image_size": job.image_size}
        found["metrics"] = evaluate(job.source, job.data, device="cpu", **how)
    return found


def outputs_of(predictor: Any, images: Tensor) -> list[Tensor]:
    """The predictor's `outputs` about transformed images `[N, C, H, W]`, in fp32."""
    import torch

    with torch.inference_mode():
        return [each.float() for each in predictor.network_outputs(images)]


def median_call(call: Callable[[], _Result], least: int, most: float = inf) -> tuple[_Result, float]:
    """Result of a call, and the median of the seconds that it takes.

    Args:
        call: to be timed.
        least: how many timed calls, at least, after `WARM` that are not.
        most: seconds after which no further call is begun, but for a first timed one.
    """
    start, times = time.perf_counter(), list[float]()
    for _ in range(WARM):
        result = call()
        if time.perf_counter() - start > most / 2:
            break
    while len(times) < least or sum(times) < DURING:
        began = time.perf_counter()
        result = call()
        ended = time.perf_counter()
        times.append(ended - began)
        if ended - start > most:
            break
    return result, statistics.median(times)


if __name__ == "__main__":
    answer_job(MeasuredRow, measure)
