"""The depthwise 7x7 convolution of visible patches, and its gradients.

It reads zeros at hidden positions and outside the map, and computes visible positions only, reading the neighbours
where they lie: on a CPU by a kernel in C (`native.depthwise`), on CUDA by one in Triton. Elsewhere PyTorch's own
convolution of whole maps does it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from convnext.native import depthwise as native
from convnext.nn.depthwise.whole_maps import KERNEL_SIZE, PADDING, depthwise_conv
from convnext.nn.norm import column_sums
from convnext.nn.triton import available as gpu
from convnext.nn.visible_patches import VisiblePatches


def visible_depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None, patches: VisiblePatches) -> Tensor:
    """`[N, V, p, p, C]` to the same shape, with `weight` `[C, 1, 7, 7]` and `bias` `[C]`."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    tables = place_tables(x, patches)
    if tables is None:
        maps = patches.fill(x).permute(0, 3, 1, 2)
        return patches.cut(depthwise_conv(maps, weight, bias).permute(0, 2, 3, 1))
    return _VisibleDepthwise.apply(x.contiguous(), weight, bias, *tables)


def place_tables(x: Tensor, patches: VisiblePatches) -> list[Tensor] | None:
    """Tables of places for the operators of `x`'s device, built once for a batch and a patch size; or None."""
    if x.device.type == "cpu" and x.dtype in native.COMPILED_DTYPES and native.depthwise_available():
        return tile_tables(patches, x.shape[2])
    return slot_tables(patches) if x.device.type == "cuda" and gpu.triton_available() else None


class _VisibleDepthwise(torch.autograd.Function):
    """The input's type rules; the kernels take weights of any."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *tables: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, *tables)
        return torch.ops.convnext.visible_depthwise(x, weight, bias, list(tables))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *tables = ctx.saved_tensors
        grad = grad.contiguous()
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = torch.ops.convnext.visible_depthwise(grad, weight.flip(2, 3), None, tables)
        if ctx.needs_input_grad[1]:
            dweight = torch.ops.convnext.visible_depthwise_weight_gradient(x, grad, tables).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            dbias = column_sums(grad).to(weight.dtype)
        return dx, dweight, dbias, *[None] * len(tables)


def tile_tables(patches: VisiblePatches, p: int) -> list[Tensor]:
    """For patches of side `p`, what each tile sees, as `native.depthwise` takes it: the whole batch as one image.

    A tile is a patch, or an equal part of a large one.
    """

    def build() -> list[Tensor]:
        side = max(s for s in range(1, native.MAX_SIDE + 1) if p % s == 0)
        images, visible = patches.index.shape
        numbers = torch.arange(1, images * visible * p * p + 1, dtype=torch.int32, device=patches.index.device)
        rows = numbers.view(images, visible, p, p, 1)
        maps = F.pad(patches.fill(rows).squeeze(-1), (PADDING,) * 4)
        around = maps.unfold(1, side + 2 * PADDING, side).unfold(2, side + 2 * PADDING, side).flatten(3)
        return [patches.cut(around).reshape(-1, side + 2 * PADDING, side + 2 * PADDING).contiguous()]

    return patches.tables(("tiles", p), build)


def slot_tables(patches: VisiblePatches) -> list[Tensor]:
    """Tables of neighbours for the CUDA kernels: the visible patches' places, and the patch at each place."""

    def build() -> list[Tensor]:
        from convnext.nn.triton.visible_depthwise import slot_table

        return [patches.index, slot_table(patches)]

    return patches.tables("slots", build)


def _cpu_forward(x: Tensor, weight: Tensor, bias: Tensor | None, tables: list[Tensor]) -> Tensor:
    return native.cpu_convolve(x, weight, bias, tables[0], 1)


def _cpu_weight_gradient(x: Tensor, grad: Tensor, tables: list[Tensor]) -> Tensor:
    return native.cpu_weight_gradient(x, grad, tables[0], 1)


def _cuda_forward(x: Tensor, weight: Tensor, bias: Tensor | None, tables: list[Tensor]) -> Tensor:
    from convnext.nn.triton.visible_depthwise import visible_depthwise_forward

    return visible_depthwise_forward(x, weight, bias, *tables)


def _cuda_weight_gradient(x: Tensor, grad: Tensor, tables: list[Tensor]) -> Tensor:
    from convnext.nn.triton import visible_depthwise as kernels

    return kernels.visible_depthwise_weight_gradient(x, grad, *tables)


def _weight_gradient_fake(x: Tensor, grad: Tensor, tables: list[Tensor]) -> Tensor:
    full = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(x.shape[-1], 1, KERNEL_SIZE, KERNEL_SIZE, dtype=full)


_library = torch.library.Library("convnext", "FRAGMENT")
_library.define("visible_depthwise(Tensor x, Tensor weight, Tensor? bias, Tensor[] tables) -> Tensor")
_library.define("visible_depthwise_weight_gradient(Tensor x, Tensor grad, Tensor[] tables) -> Tensor")
_library.impl("visible_depthwise", _cpu_forward, "CPU")
_library.impl("visible_depthwise", _cuda_forward, "CUDA")
_library.impl("visible_depthwise_weight_gradient", _cpu_weight_gradient, "CPU")
_library.impl("visible_depthwise_weight_gradient", _cuda_weight_gradient, "CUDA")
torch.library.register_fake("convnext::visible_depthwise", lambda x, *_: torch.empty_like(x), lib=_library)
torch.library.register_fake("convnext::visible_depthwise_weight_gradient", _weight_gradient_fake, lib=_library)
