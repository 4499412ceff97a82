"""What the benchmarks share: alternating calls, medians, and the machine's name."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def medians(calls: list[Callable[[], None]], repeats: int) -> list[float]:
    """Milliseconds of each, called in turn, after three rounds of warming up."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(-3, repeats):
        pairs = list(zip(calls, times, strict=True))
        for function, taken in pairs if repeat % 2 else reversed(pairs):  # neither always comes after the other
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat >= 0:
                taken.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(taken) for taken in times]


def kernels(profiler: torch.profiler.profile) -> list[Any]:
    """A profile's kernels on a GPU by name, without the operators and regions that started them, which hold their time
    once more."""
    averages = profiler.key_averages()
    return [e for e in averages if e.device_type == torch.autograd.DeviceType.CUDA and not e.is_user_annotation]


def machine() -> str:
    """The processor by name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        name += f" with {torch.cuda.get_device_name()}"
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
