"""Which device a run uses, and in which type it computes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch

from convnext.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Inside, matrices and convolutions are multiplied in this precision."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


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
