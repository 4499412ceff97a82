"""The depthwise kernels of GPUs for whole maps (`depthwise.cu`), built where they run.

NVRTC, which comes with PyTorch for CUDA, compiles them for the channels at hand: about a second each, the first time.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnext.native.compile import is_on

CUDA_SOURCE = Path(__file__).with_name("depthwise.cu")
STRIP, THREADS, PARTS, RESIDENT = 7, 128, 4, 3  # as in depthwise.cu
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

log = logging.getLogger("convnext")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise 7x7 convolution, of the input's shape and type; sums are in fp32.

    Args:
        x: contiguous `[N, H, W, C]`.
        weight: `[C, 1, 7, 7]`.
        bias: `[C]`, or None.
    """
    images, height, width, channels = x.shape
    taps = weight.float().view(channels, 49).t().contiguous()
    start = taps.new_zeros(channels) if bias is None else bias.float()
    out = torch.empty_like(x)
    strips = -(-width // STRIP)
    chunks = row_chunks(images * strips * channels / THREADS, height, capacity(x.device))
    rows = -(-height // chunks)
    sizes = [images, height, width, strips, chunks, rows]
    blocks = -(-images * chunks * strips * channels // THREADS)
    launch_kernel("convolve", x, (blocks, 1, 1), (THREADS, 1, 1), [x, taps, start, out, *sizes])
    return out


def weight_gradient(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of weight `[C, 1, 7, 7]` and bias `[C]` in fp32, from input and output gradient, contiguous
    `[N, H, W, C]` of one type."""
    images, height, width, channels = x.shape
    strips = -(-width // STRIP)
    across = -(-strips * channels // 32)
    most = capacity(x.device)
    down = max(1, min(-(-images * height // (7 * PARTS)), most // across))
    chunks = row_chunks(images / (down * PARTS), height, 1)
    rows = -(-height // chunks)
    sums = torch.empty(down * strips, 50, channels, dtype=torch.float32, device=x.device)
    sizes = [images, height, width, strips, chunks, rows]
    launch_kernel("weight_gradient", x, (across, down, 1), (32, PARTS, 1), [x, grad, sums, *sizes])
    total = sums.sum(0)
    return total[:49].t().contiguous().view(channels, 1, 7, 7), total[49]


def row_chunks(work: float, height: int, capacity: int) -> int:
    """In how many chunks of rows to cut maps, so that `work` units a chunk fill rounds of `capacity` units well.

    A chunk costs its rows, and some of the six around it that are read for them.
    """

    def cost(chunks: int) -> float:
        return -(-work * chunks // capacity) * (-(-height // chunks) + 2)

    return min(range(1, max(1, height // 7) + 1), key=cost)


@functools.cache
def capacity(device: torch.device) -> int:
    """Number of thread blocks that a device runs at a time."""
    return torch.cuda.get_device_properties(device).multi_processor_count * RESIDENT


def launch_kernel(
    name: str, x: Tensor, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: list[Any]
) -> None:
    """Start a kernel on the current stream of `x`'s device."""
    with torch.cuda.device_of(x):
        kernel(name, TYPES[x.dtype], x.shape[-1], x.device.index)(grid, block, arguments)


@functools.cache
def kernel(name: str, kind: int, channels: int, device: int) -> Any:
    """A kernel, built for a type, a number of channels, and a device, which must be the current one."""
    source = f"#define TYPE {kind}\n#define CHANNELS {channels}\n#define RESIDENT {RESIDENT}\n{CUDA_SOURCE.read_text()}"
    return torch.cuda._compile_kernel(source, name)


def cuda_available(device: int) -> bool:
    """Whether kernels can be built for a device; tried once, as PyTorch's access to NVRTC may change."""
    return _works(device)


cuda_available._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch reads it off any function


@functools.cache
def _works(device: int) -> bool:
    if not is_on():
        return False
    try:
        with torch.cuda.device(device):
            kernel("convolve", TYPES[torch.bfloat16], 96, device)
    except Exception as error:  # whatever a driver, a library or another release of PyTorch does
        log.warning("NVRTC does not work here (%s): depthwise convolutions are cuDNN's", str(error).split("\n")[0])
        return False
    return True
