"""The memory that a step of training takes at its peak."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def peak_mib(step: Callable[[], object], device: str) -> float:
    """Beyond model, optimizer and images: of the process on a CPU, of the allocator on CUDA."""
    step()  # the optimizer's state is there from now on
    if device == "cuda":
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM, the largest size so far, anew
    before = memory_kib("VmRSS")
    step()
    return (memory_kib("VmHWM") - before) / 2**10


def memory_kib(name: str) -> int:
    """An entry of the process's status on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def peak_in_a_process(script: str, case: str, side: str, device: str) -> float:
    """Of a process of its own, started by the script's `--peak`: what another side once took is not given back."""
    command = [sys.executable, script, "--peak", case, side, "--device", device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
