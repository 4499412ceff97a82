"""What the benchmarks share: alternating calls, medians, the machine's name, and a file of figures and their origin."""

from __future__ import annotations

import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tables import ROOT, Column, Row, dump, table


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


def say(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print the latest row, and the head before the first."""
    lines = table(columns, rows[-1:])
    print("\n".join(lines if len(rows) == 1 else lines[2:]), flush=True)


def commit() -> str | None:
    """Of the code that is measured, "+changes" if files were changed since; None where git does not know."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude", "*", "--dirty=+changes"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def command() -> str:
    """As it was typed, without the folders of this machine: an absolute path stands as its last name."""
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return shlex.join(["python", str(name), *(re.sub(r"(^|=)/.*/", r"\1", word) for word in sys.argv[1:])])


def write_result(
    path: Path,
    *,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    note: str,
    seed: int | Sequence[int] | None = None,
    peers: Sequence[str] = (),
) -> None:
    """Figures with their origin, as `tables.py` reads them; `peers` are packages whose versions matter."""
    result = {
        "title": title,
        "command": command(),
        "commit": commit(),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "versions": {name: version(name) for name in ("torch", *peers)},
        "columns": columns,
        "rows": rows,
        "note": note,
    }
    path.write_text(dump(result))
