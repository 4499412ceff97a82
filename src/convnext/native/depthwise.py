"""The depthwise kernels of CPUs (`depthwise.c`), built where they run (`build`).

Where they cannot be, PyTorch's operators do the work (`nn.depthwise.whole_maps`, `nn.depthwise.visible_patches`).
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from convnext.native import compile as build

MAX_SIDE, BLOCK, TAPS = 8, 32, 49  # as in depthwise.c
COMPILED_DTYPES = (torch.float32, torch.bfloat16)

SOURCE = Path(__file__).with_name("depthwise.c")


def depthwise_available() -> bool:
    """Whether there are kernels; the first call may build them, in a second or two."""
    return depthwise_library() is not None


# What torch.compiler.assume_constant_result does, which would import the whole compiler: the answer goes into a graph,
# not the search for it.
depthwise_available._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch reads it off any function


def depthwise_library() -> ctypes.CDLL | None:
    """The kernels, or None where they cannot be built."""
    return build.library(SOURCE)


def cpu_convolve(x: Tensor, weight: Tensor, bias: Tensor | None, table: Tensor, images: int) -> Tensor:
    """The convolution of positions, of the input's shape and type; sums are in fp32.

    Args:
        x: fp32 or bf16 `[..., C]`, contiguous.
        weight: `[C, 1, 7, 7]`.
        bias: `[C]`, or None.
        table: int32 `[T, height, width]`, for each tile the rows of `x` it sees, counted from 1 in its image, or 0.
            The tiles' own positions, without the 3 around them, are each row of `x` once.
        images: images of the same number of rows, to each of which the table applies.
    """
    channels = x.shape[-1]
    if weight.shape != (channels, 1, 7, 7) or (bias is not None and bias.shape != (channels,)):
        raise ValueError(f"{list(weight.shape)} are no weights of {channels} channels, or the bias is of others")
    out = torch.empty_like(x)
    weight, bias = weight.float().contiguous(), None if bias is None else bias.float().contiguous()
    packed = torch.empty(81 * -(-channels // BLOCK) * BLOCK, dtype=torch.float32, device=x.device)
    _call("depthwise", [x, table, weight, bias, out, packed], [], x, table, images)
    return out


def cpu_weight_gradient(x: Tensor, grad: Tensor, table: Tensor, images: int) -> Tensor:
    """fp32 `[C, 1, 7, 7]`, from input and output gradient `[..., C]`, both contiguous and of one type."""
    if x.shape != grad.shape or x.dtype != grad.dtype:
        raise ValueError(f"input {x.dtype} {list(x.shape)} and gradient {grad.dtype} {list(grad.shape)} differ")
    channels = x.shape[-1]
    blocks = -(-channels // BLOCK)
    groups = -(-64 // blocks)  # parts for threads to share, the same for any number of threads
    shape = (groups, blocks * BLOCK // _lanes(), TAPS, _lanes())
    sums = torch.empty(shape, dtype=torch.float32, device=x.device)
    _call("depthwise_weight_gradient", [x, grad, table, sums], [groups], x, table, images)
    return sums.sum(dim=0).transpose(1, 2).reshape(-1, 1, 7, 7)[:channels]


def _lanes() -> int:
    found = depthwise_library()
    assert found is not None
    return found.lanes()


def _call(name: str, tensors: list[Tensor | None], first: list[int], x: Tensor, table: Tensor, images: int) -> None:
    if x.dtype not in COMPILED_DTYPES or table.dtype != torch.int32 or max(table.shape[1:]) > MAX_SIDE + 6:
        raise ValueError(f"no kernel for {x.dtype} with a table {table.dtype} {list(table.shape)}")
    if not all(t is None or (t.is_contiguous() and t.device.type == "cpu") for t in tensors):
        raise ValueError("the kernels take contiguous tensors on the CPU")
    channels, (tiles, height, width) = x.shape[-1], table.shape
    sizes = [*first, images, x.numel() // max(1, channels * images), tiles, channels]
    getattr(depthwise_library(), name)(
        *[ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors],
        *[ctypes.c_int64(size) for size in sizes],
        *[height, width, int(x.dtype == torch.bfloat16), torch.get_num_threads()],
    )
