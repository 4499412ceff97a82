"""Code in C, built where it runs, once, by the system's compiler, and kept in the cache folder.

Nothing depends on it: where there is no compiler that knows OpenMP, a slower way does the work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

from convnext.files import cache_folder

VECTORS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
}


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """What a C file holds, or None where it cannot be built. Building takes a second or two."""
    flags = ["-O3", *VECTORS.get(torch.backends.cpu.get_cpu_capability(), []), "-fopenmp", "-shared", "-fPIC"]
    command = [*shlex.split(os.environ.get("CC") or "cc"), *flags]
    try:
        content = " ".join([platform.machine(), *command]).encode() + source.read_bytes()
        path = cache_folder() / "kernels" / f"{source.stem}-{hashlib.sha256(content).hexdigest()[:16]}.so"
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # not built yet, or damaged
            return ctypes.CDLL(str(path))
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # of its own: several processes may build
            os.replace(_build(command, source, folder), path)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError:  # the compiler does not know OpenMP, or its flags
        return None
    except (OSError, RuntimeError):  # no place to keep it, or no home to have one in, or no compiler
        return _library_for_this_process(command, source)


def _library_for_this_process(command: list[str], source: Path) -> ctypes.CDLL | None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            return ctypes.CDLL(_build(command, source, folder))
    except (OSError, subprocess.CalledProcessError):  # no compiler at all, or one that cannot
        return None


def _build(command: list[str], source: Path, folder: str) -> str:
    """The library's path."""
    built = f"{folder}/{source.stem}.so"
    subprocess.run([*command, str(source), "-o", built], check=True, capture_output=True)
    return built
