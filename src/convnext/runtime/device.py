"""Which device a run uses, and in which type it computes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch

from convnext.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]

LONG_RUN, LONG_GRAPHED_RUN = 5000, 50_000
"""Steps from which compiling pays: it took 40 to 120 s on an H100's machine, and saved some 15 ms a step; of steps that
are CUDA graphs, 0.5 to 3 ms."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(device: torch.device, precision: Precision | Literal["auto"]) -> Precision:
    """What "auto" means on a device: bf16 on GPUs that multiply it fast (from compute capability 8.0 on), else fp32."""
    if precision != "auto":
        return precision
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16" if fast else "fp32"


def choose_compile(device: torch.device, steps: int, compiled: bool | None, graphed: bool = False) -> bool:
    """Whether to compile the network; None: on GPUs, for runs so long that they win back the minute or two it takes.

    `graphed`: steps are recorded as a CUDA graph.
    """
    long = LONG_GRAPHED_RUN if graphed else LONG_RUN
    return compiled if compiled is not None else device.type == "cuda" and steps >= long


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Inside, matrices and convolutions are multiplied in this precision."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def prepare(device: torch.device, deterministic: bool) -> None:
    """Set what a GPU computes by: sums of half types in fp32; `deterministic`: by operators that repeat every bit."""
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True)


def move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device, without waiting for what a GPU is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then Apple's MPS, then the CPU. `InputError` if it is not there."""
    if torch.cuda.is_available() and name in ("auto", "cuda"):
        own, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()  # torchrun gives each a number
        if own >= there > 1:
            raise InputError(f"process {own} of this machine has no device of its own: there are {there}")
        return torch.device("cuda", own if there > 1 else 0)  # a scheduler may show each process its own alone
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device '{name}'; use auto, cpu, cuda, cuda:1 or mps") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"device {name} is not there: this machine has {count} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps is not there")
    return device
