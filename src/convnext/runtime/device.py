"""All that depends on the kind of device: which a run uses, in which type it computes, and what it can do.

Accelerators that `torch.accelerator` knows are found by it. What only some can do is asked here, and nowhere else but
by the kernels themselves (`native`, `nn.triton`, `train.cuda_graph`): a new accelerator is one edit.
"""

from __future__ import annotations

import os
import warnings
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
    """Precision that "auto" stands for: bf16 on GPUs that are fast in it (compute capability 8.0), else fp32."""
    if precision != "auto":
        return precision
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bf16" if fast else "fp32"


def choose_compile(device: torch.device, steps: int, compiled: bool | None, graphed: bool) -> bool:
    """Whether to compile the network; None: on GPUs, for runs so long that they win back the minute or two it takes.

    `graphed`: steps are recorded as a CUDA graph.
    """
    long = LONG_GRAPHED_RUN if graphed else LONG_RUN
    return compiled if compiled is not None else device.type == "cuda" and steps >= long


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Inside, matrices and convolutions are multiplied in this precision."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def prepare(device: torch.device, deterministic: bool) -> None:
    """Set what a GPU computes by: fp32, also for sums of half types; `deterministic`: operators that repeat every
    bit."""
    make_current(device)
    keep_fp32()
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True)


def keep_fp32() -> None:
    """Have this process compute convolutions of fp32 in fp32, as on a CPU: by PyTorch's default, cuDNN rounds to TF32.

    Trainings, evaluations and commands do so. A predictor does not: the setting belongs to the program it is part of.
    """
    with warnings.catch_warnings():
        # The setting of each operator, which warnings of some versions name, makes this one unreadable to the compiler.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = False


def make_current(device: torch.device) -> None:
    """Make an accelerator of several the one that this process computes on."""
    if device.index is not None:
        torch.accelerator.set_device_index(device)


def move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device, without waiting for what a GPU is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes the accelerator, else the CPU. `InputError` if it is not there."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is not None and name in ("auto", found.type):
        own, there = int(os.environ.get("LOCAL_RANK", "0")), torch.accelerator.device_count()  # torchrun numbers them
        if own >= there > 1:
            raise InputError(f"process {own} of this machine has no device of its own: there are {there}")
        if found.type == "mps":
            return torch.device("mps")
        return torch.device(found.type, own if there > 1 else 0)  # a scheduler may show each process its own alone
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device '{name}'; use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cpu":
        return device
    if found is None or device.type != found.type or (device.index or 0) >= torch.accelerator.device_count():
        here = f"{torch.accelerator.device_count()} {found.type} devices" if found is not None else "no accelerator"
        raise InputError(f"device {name} is not there: this machine has {here}")
    return device


def device_names() -> dict[str, str]:
    """Names of the machine's accelerators, with their memory, by device."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return {}
    if found.type == "mps":
        return {"mps": "Apple's GPU"}
    module = getattr(torch, found.type)
    names = {}
    for number in range(torch.accelerator.device_count()):
        properties = module.get_device_properties(number)
        names[f"{found.type}:{number}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return names


def runs_ahead(device: torch.device) -> bool:
    """Whether a device computes while Python goes on, with optimizers that leave a step out by themselves, and graphs
    of whole steps: CUDA."""
    return device.type == "cuda"


def is_deterministic(device: torch.device) -> bool:
    """Whether every operator of detection and segmentation gives the same bits each time: a CPU's do."""
    return device.type != "cuda"


def synchronises_batch_norm(device: torch.device) -> bool:
    """Whether batches can be normalised over several processes."""
    return device.type == "cuda"


def pins_memory() -> bool:
    """Whether a device is in use to which pinned memory is copied faster."""
    return torch.cuda.is_initialized()


def process_backend(device: torch.device) -> str:
    """Backends of torch.distributed: gloo for tensors of the CPU, and the device's own for its tensors."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def device_ids(device: torch.device) -> list[int] | None:
    """Arguments of DistributedDataParallel for a process's device."""
    return [device.index] if device.type == "cuda" and device.index is not None else None
