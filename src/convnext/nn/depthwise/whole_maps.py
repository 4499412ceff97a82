"""The depthwise 7x7 convolution of whole maps, and its gradients.

On CUDA kernels of our own do it (`native.depthwise_cuda`) where they were measured faster than cuDNN's
(docs/results.md).

PyTorch computes the weight gradient of a depthwise convolution on a CPU by a kernel for grouped convolutions at large,
3 to 40 times slower than the forward pass. Here a kernel in C does it (`native.depthwise`). Where that cannot be
built: the gradient is itself a depthwise convolution, of the input, with the output's gradient as the filter, and the
kernel PyTorch has for those serves. The other two passes are theirs already.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from convnext.native import depthwise as native
from convnext.native import depthwise_cuda as cuda
from convnext.nn.exporting import is_exporting
from convnext.nn.norm import OWN_ELEMENTS

KERNEL_SIZE = 7
PADDING = KERNEL_SIZE // 2

# Images whose weight gradients are computed in one call, as channels side by side: enough work for a call
# to pay, and small enough for the cache.
DEPTHWISE_GROUP = 2**18


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[N, C, H, W]` in channels-last memory to the same, with `weight` `[C, 1, 7, 7]`."""
    if x.device.type == "cpu" and torch.is_grad_enabled() and x.dtype != torch.float64:
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        return _DepthwiseConv.apply(x, weight, bias)
    if x.device.type == "cuda" and takes_own_kernel(x):
        if torch.is_autocast_enabled("cuda"):
            x = x.to(torch.get_autocast_dtype("cuda"))
        return _CudaDepthwise.apply(x.permute(0, 2, 3, 1).contiguous(), weight, bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, padding=PADDING, groups=weight.shape[0])


class _DepthwiseConv(torch.autograd.Function):
    """The input's type rules; weights of another are cast here, so that their gradients need no rounding to it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        return F.conv2d(x, weight, bias, padding=PADDING, groups=weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = F.conv2d(grad, weight.to(x.dtype).flip(2, 3), padding=PADDING, groups=weight.shape[0])
        if ctx.needs_input_grad[1]:
            dweight = torch.ops.convnext.depthwise_weight_gradient(x, grad).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            dbias = grad.sum(dim=(0, 2, 3), dtype=weight.dtype)
        return dx, dweight, dbias


def takes_own_kernel(x: Tensor) -> bool:
    """Whether maps `[N, C, H, W]` on CUDA go through our kernels: half-width types, and not too few elements. On maps
    of 7×7 to 56×56 they were measured 2.3 to 4 times as fast as cuDNN's, and 1.1 to 1.8 times for the weight gradient
    (docs/results.md)."""
    if is_exporting():
        return False
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    return (
        x.numel() >= OWN_ELEMENTS and dtype in (torch.bfloat16, torch.float16) and cuda.cuda_available(x.device.index)
    )


class _CudaDepthwise(torch.autograd.Function):
    """The convolution of maps `[N, H, W, C]` by the CUDA kernels, which take weights of any type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.convnext.depthwise(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = torch.ops.convnext.depthwise(grad, weight.flip(2, 3), None)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            found = torch.ops.convnext.depthwise_gradients(x, grad)
            dweight, dbias = (t.to(weight.dtype) for t in found)
        return dx, dweight, dbias if ctx.needs_input_grad[2] else None


def depthwise_weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """`[C, 1, 7, 7]` in fp32, from input and output gradient, both `[N, C, H, W]` in channels-last memory."""
    if x.dtype in native.COMPILED_DTYPES and native.depthwise_available():
        x, grad = (t.permute(0, 2, 3, 1).contiguous() for t in (x, grad))
        return native.cpu_weight_gradient(x, grad, tile_table(*x.shape[1:3]), images=x.shape[0])
    return weight_gradient_as_convolution(x, grad)


@functools.lru_cache(maxsize=64)
def tile_table(height: int, width: int) -> Tensor:
    """Input of each tile of a map, as `native.depthwise` takes it; tiles at the map's end may reach beyond it."""
    th, tw = (-(-size // -(-size // native.MAX_SIDE)) for size in (height, width))  # as equal as can be
    rows = torch.arange(1, height * width + 1, dtype=torch.int32, device="cpu").view(height, width)
    rows = F.pad(rows, (PADDING, PADDING + -width % tw, PADDING, PADDING + -height % th))
    tiles = rows.unfold(0, th + 2 * PADDING, th).unfold(1, tw + 2 * PADDING, tw)
    return tiles.reshape(-1, th + 2 * PADDING, tw + 2 * PADDING).contiguous()


def weight_gradient_as_convolution(x: Tensor, grad: Tensor) -> Tensor:
    """The weight gradient by PyTorch's operators, `[C, 1, 7, 7]` in fp32."""
    images, channels, height, width = x.shape
    total = x.new_zeros(KERNEL_SIZE, KERNEL_SIZE, channels, dtype=torch.float32)
    group = max(1, DEPTHWISE_GROUP // (channels * height * width))
    for first in range(0, images, group):
        signal, filters = x[first : first + group], grad[first : first + group]
        n = signal.shape[0]
        # Images to channels: [n, C, H, W] to [1, n·C, H, W] and to filters [n·C, 1, H, W], channels-last.
        signal = signal.permute(2, 3, 0, 1).reshape(1, height, width, n * channels).permute(0, 3, 1, 2)
        filters = filters.permute(2, 3, 0, 1).reshape(1, height, width, n * channels).permute(3, 0, 1, 2)
        each = F.conv2d(signal, filters, padding=PADDING, groups=n * channels)
        total += each.view(n, channels, KERNEL_SIZE, KERNEL_SIZE).permute(0, 2, 3, 1).sum(dim=0, dtype=torch.float32)
    return total.permute(2, 0, 1).unsqueeze(1).contiguous()


def _weight_gradient_fake(x: Tensor, grad: Tensor) -> Tensor:
    return x.new_empty(x.shape[1], 1, KERNEL_SIZE, KERNEL_SIZE, dtype=torch.float32)


def _gradients_fake(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    channels = x.shape[-1]
    return (
        x.new_empty(channels, 1, KERNEL_SIZE, KERNEL_SIZE, dtype=torch.float32),
        x.new_empty(channels, dtype=torch.float32),
    )


# Operators of their own, as torch.compile cannot trace a call of C or of a GPU's kernel.
_library = torch.library.Library("convnext", "FRAGMENT")
_library.define("depthwise_weight_gradient(Tensor x, Tensor grad) -> Tensor")
_library.impl("depthwise_weight_gradient", depthwise_weight_gradient, "CPU")
_library.define("depthwise(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_library.impl("depthwise", cuda.convolve, "CUDA")
_library.define("depthwise_gradients(Tensor x, Tensor grad) -> (Tensor, Tensor)")
_library.impl("depthwise_gradients", cuda.weight_gradient, "CUDA")
torch.library.register_fake("convnext::depthwise_weight_gradient", _weight_gradient_fake, lib=_library)
torch.library.register_fake("convnext::depthwise", lambda x, *_: torch.empty_like(x), lib=_library)
torch.library.register_fake("convnext::depthwise_gradients", _gradients_fake, lib=_library)
