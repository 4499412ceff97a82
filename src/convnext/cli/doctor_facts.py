"""`convnext doctor`: what this machine has, and which fast paths it takes."""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torchvision

import convnext
from convnext.data.augment import warp
from convnext.native import compile as build
from convnext.native import depthwise as native
from convnext.nn.triton import available as gpu
from convnext.runs.environment import processor
from convnext.runtime.device import device_names, pick_device, runs_ahead
from convnext.storage.files import cache_folder


def examine_machine() -> dict[str, Any]:
    """Facts by name, each a line to read."""
    facts: dict[str, Any] = {
        "convnext": convnext.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "processor": processor(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "memory": f"{memory_gib():.0f} GiB",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16 on this CPU": bf16_support(),
    }
    facts |= device_names() or {"accelerator": "none"}
    facts["device used"] = str(pick_device("auto"))
    facts["torch.compile"] = compiler()
    facts["CPU inference"] = inference_engine() if cpu_used() else "not used: a GPU is there"
    facts["engines for exports"] = ", ".join(engines()) or "none: pip install 'convnext[export]'"
    facts["CPU training"] = depthwise_kernels()
    facts["augmentation"] = "warps built here, by the C compiler" if warp.warp_library() else "warps by Pillow, slower"
    facts["pre-training"] = visible_patches()
    facts["kernels kept in"] = kernels_kept()
    facts["shards kept in"] = kept(cache_folder())
    facts["shared memory"] = shared_memory()
    facts["weights kept in"] = str(Path(torch.hub.get_dir()) / "checkpoints")
    facts["disk free here"] = f"{shutil.disk_usage('.').free / 2**30:.0f} GiB"
    return facts


def kernels_kept() -> str:
    """Folder of compiled kernels, and whether kernels are loaded from it."""
    try:
        return kept(build.build_cache(), "built for each process alone")
    except RuntimeError:  # there is no home
        return "nowhere: built for each process alone"


def kept(folder: Path, otherwise: str = "others can change what is kept there") -> str:
    """A folder, and whether it is the user's alone."""
    if not folder.exists():
        return f"{folder} (not there yet)"
    fault = build.who_else_writes(folder)
    return f"{folder}, this user's alone" if fault is None else f"{fault}: {otherwise}"


def shared_memory() -> str:
    """Free and total memory in /dev/shm, through which loading processes hand over their images."""
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        return "no /dev/shm"
    advice = "" if usage.total >= 2**30 else ": few for --workers; in Docker --shm-size 8g"
    return f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MB free{advice}"


def cpu_used() -> bool:
    """Whether "auto" means the CPU."""
    return pick_device("auto").type == "cpu"


def inference_engine() -> str:
    """The engine that `load` takes on this CPU."""
    if find_spec("openvino") is not None:
        return "by OpenVINO: --backend torch, or compile, says otherwise"
    return "by PyTorch, pointwise layers image by image, in cache; pip install 'convnext[export]' has a faster engine"


def engines() -> list[str]:
    """Libraries that run exported files, with their versions."""
    return [f"{name} {version(name)}" for name in ("onnxruntime", "openvino") if find_spec(name) is not None]


def depthwise_kernels() -> str:
    """Whether the CPU's kernels could be built here."""
    if native.depthwise_available():
        return "depthwise kernels built here, by the C compiler"
    return "depthwise by PyTorch, slower: install a C compiler with OpenMP (gcc 9 or later)"


def visible_patches() -> str:
    """How the depthwise convolution of visible patches is computed on the device used."""
    kind = pick_device("auto").type
    triton, native_too = kind == "cuda" and gpu.triton_available(), kind == "cpu" and native.depthwise_available()
    return "visible patches alone" if triton or native_too else "whole maps: no kernel for visible patches here"


def bf16_support() -> str:
    """How fast this CPU multiplies bf16 matrices, against fp32: instructions for it (AVX-512, AMX) do not say."""
    ratio = product_seconds(torch.float32) / product_seconds(torch.bfloat16)
    advice = "--precision bf16 pays" if ratio > 1.3 else "stay with --precision fp32"
    return f"products {ratio:.1f} times as fast as fp32's: {advice}"


def product_seconds(dtype: torch.dtype, side: int = 1024) -> float:
    """The time of a matrix product, the best of five."""
    matrix = torch.ones(side, side, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times)


def memory_gib() -> float:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def compiler() -> str:
    """Whether `--compile` can work: a C++ compiler and Python's headers for the CPU, Triton for CUDA."""
    if runs_ahead(pick_device("auto")):
        return "Triton"
    name = os.environ.get("CXX") or next((c for c in ("g++", "clang++") if shutil.which(c)), None)
    if name is None:
        return "no: install a C++ compiler (g++)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return f"no: {name} is there, Python's headers are not (python3-dev)"
    return f"yes, with {name}"
