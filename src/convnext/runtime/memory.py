"""Available and peak memory of a process, on a GPU or a CPU; limits of machine, container and shell count.

On a CPU, pages of files (PyTorch's libraries are half a gigabyte) do not count: the system gives them up when it needs
the memory, and reads them again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from convnext.errors import InputError

NO_LIMIT = 2**60
"""Bytes from which version 1 of control groups means that there is no limit."""


_SHORT = re.compile(r"DefaultCPUAllocator: .*memory|(?:CUDA error|MPS backend):? out of memory")
"""Messages of PyTorch's RuntimeError for memory that could not be allocated."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no more memory, of a device or of the machine."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _SHORT.search(str(error)) is not None
    )


class Memory:
    """Memory of a device, as this process sees it. `InputError` for devices that do not say."""

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda" and not (device.type == "cpu" and Path("/proc/self/status").is_file()):
            raise InputError(f"memory cannot be measured on {device} here")
        self.device = device

    def limit(self) -> int:
        """Most bytes this process can use, including those in use."""
        if self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
            share = torch.cuda.get_per_process_memory_fraction(self.device) * total
            return int(min(share, free + torch.cuda.memory_reserved(self.device)))
        own = _of_status("VmRSS") - _of_status("RssFile")
        limits = [own + _of_table(Path("/proc/meminfo"), "MemAvailable"), *(own + free for free in _free_of_groups())]
        most = address_space()
        return min([*limits, most - _of_status("VmSize") + own] if most is not None else limits)

    def peak(self) -> int:
        """Peak memory of this process so far, in bytes, with the present memory of its loading processes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device)
        return _of_status("VmHWM") - _of_status("RssFile") + sum(map(_proportional, _children()))


def bound_memory() -> int | None:
    """From now on, let this process get no more memory of the CPU than there is, so that PyTorch says what does not fit
    before the system ends a process for it; returns the bytes that are left, None where that cannot be told."""
    try:
        memory = Memory(torch.device("cpu"))
    except InputError:
        return None
    import resource

    free = memory.limit() - (_of_status("VmRSS") - _of_status("RssFile"))
    most, hard = _of_status("VmData") + free, resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    return free


def address_space() -> int | None:
    """Most bytes of addresses that this process can have, as `ulimit -v` says; None for any number."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else most


def _of_table(path: Path, name: str) -> int:
    """Read a line `Name: 123 kB` of a file of the kernel, in bytes; 0 where there is no such line."""
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


def _of_status(name: str) -> int:
    return _of_table(Path("/proc/self/status"), name)


def _children() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(number) for number in children.read_text().split()] if children.is_file() else []


def _proportional(process: int) -> int:
    """Bytes of a process, of which those it shares with others count in part; 0 if it is gone."""
    table = Path(f"/proc/{process}/smaps_rollup")
    try:
        return _of_table(table, "Pss") - _of_table(table, "Pss_File")
    except OSError:
        return 0


def _free_of_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes left in each control group with a limit, from this process's up: of version 2, and of 1."""
    free = []
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, most, used = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, most, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(base) and (group / most).is_file() and (group / used).is_file():
                limit = (group / most).read_text().strip()
                if limit != "max" and int(limit) < NO_LIMIT:
                    free.append(int(limit) - int((group / used).read_text()) + _inactive(group / "memory.stat"))
    return free


def _inactive(path: Path) -> int:
    """Bytes of files in a group's memory, which it gives up when it needs them."""
    rows = (line.split() for line in path.read_text().splitlines()) if path.is_file() else ()
    return next((int(row[1]) for row in rows if row[0] in ("inactive_file", "total_inactive_file")), 0)
