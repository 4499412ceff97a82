"""Code in C, built where it runs, once, by the system's compiler, and kept in a folder that is the user's alone.

Nothing depends on it: where there is no compiler that knows OpenMP, a slower way does the work. What is kept is loaded
only if nobody else could have written it, and if its checksum is the one it was kept with: code from a shared folder
would be anyone's, and loading a file that was cut off kills the process.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import stat
import subprocess
import tempfile
from pathlib import Path

import torch

from convnext.storage.files import cache_folder, sha256_of

COMPILER_PATIENCE = 120
"""Seconds that a compiler may take."""

VECTORS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
}

log = logging.getLogger("convnext")


def build_cache() -> Path:
    """The folder of compiled C libraries, ~/.cache/convnext/kernels; `CONVNEXT_CACHE` does not move it, as a
    cache of data may be shared with other users."""
    return Path.home() / ".cache" / "convnext" / "kernels"


def is_on() -> bool:
    """Whether code in C and CUDA is used: not where `CONVNEXT_NATIVE` is 0."""
    return os.environ.get("CONVNEXT_NATIVE", "1") != "0"


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """Library of a C file, or None where it cannot be built or is switched off. Building takes a second or two."""
    if not is_on():
        return None
    flags = ["-O3", *VECTORS.get(torch.backends.cpu.get_cpu_capability(), []), "-fopenmp", "-shared", "-fPIC"]
    try:
        command = [*shlex.split(os.environ.get("CC") or "cc"), *flags]
    except ValueError as error:
        log.warning("CC cannot be read (%s): kernels in C are done without", error)
        return None
    _say_unread()
    content = " ".join([platform.machine(), *command]).encode(errors="surrogateescape") + source.read_bytes()
    try:
        path = build_cache() / f"{source.stem}-{hashlib.sha256(content).hexdigest()[:16]}.so"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (fault := who_else_writes(path.parent)) is not None:
            log.warning("%s: kernels are built for this process alone", fault)
            return _library_for_this_process(command, source)
        if not is_whole(path):  # not built yet, damaged, or another's
            with tempfile.TemporaryDirectory(dir=path.parent) as temporary:  # several processes may build
                _keep(_build(command, source, temporary), path)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError:  # the compiler does not know OpenMP, or its flags
        return None
    except subprocess.TimeoutExpired:
        log.warning("the compiler %s took more than %d s: kernels in C are done without", command[0], COMPILER_PATIENCE)
        return None
    except (OSError, RuntimeError, ValueError):  # no place to keep it, no home to have one in, or no compiler
        return _library_for_this_process(command, source)


def who_else_writes(path: Path) -> str | None:
    """Why others than this user may have written a file or folder, as a sentence; None if they cannot have."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return f"{path} belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.name == "posix":
        return f"{path} can be written by others"
    return None


def is_whole(path: Path) -> bool:
    """Whether a library is this user's, and byte for byte what was built."""
    checksum = path.with_suffix(".sha256")
    try:
        if who_else_writes(path) or who_else_writes(checksum):
            return False
        return sha256_of(path) == checksum.read_text()
    except (OSError, ValueError):
        return False


def _keep(built: str, path: Path) -> None:
    """Move a compiled library and its checksum to their places, after both are flushed to the disk."""
    checksum = Path(built).with_suffix(".sha256")
    checksum.write_text(sha256_of(built))
    for file in (Path(built), checksum):
        os.chmod(file, 0o600)
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    os.replace(checksum, path.with_suffix(".sha256"))
    os.replace(built, path)


@functools.cache
def _say_unread() -> None:
    """Warn, once, that libraries which older releases kept in `CONVNEXT_CACHE` are not loaded."""
    if os.environ.get("CONVNEXT_CACHE") and (cache_folder() / "kernels").exists():
        log.warning("code in %s is not loaded: it is kept in ~/.cache/convnext/kernels", cache_folder() / "kernels")


def _library_for_this_process(command: list[str], source: Path) -> ctypes.CDLL | None:
    try:
        with tempfile.TemporaryDirectory() as temporary:
            return ctypes.CDLL(_build(command, source, temporary))
    except (OSError, ValueError, subprocess.SubprocessError):  # no compiler at all, or one that cannot
        return None


def _build(command: list[str], source: Path, temporary: str) -> str:
    """The library's path."""
    built = f"{temporary}/{source.stem}.so"
    subprocess.run([*command, str(source), "-o", built], check=True, capture_output=True, timeout=COMPILER_PATIENCE)
    return built
