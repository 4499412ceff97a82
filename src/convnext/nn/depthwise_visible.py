"""The depthwise 7x7 convolution of visible patches, and its gradients.

It reads zeros at hidden positions and outside the map, and computes visible positions only. On a CPU, a few images at
a time, a table of row numbers gathers what the convolution is to see into scratch memory that stays in the cache:
large patches each with the 3 positions around it (`tiles` of p + 6 a side), so that nothing hidden is computed;
small ones, whose surroundings would be most of the work, as whole maps. On CUDA a Triton kernel reads the neighbours
where they lie (`nn.kernels`). Elsewhere PyTorch's own convolution of whole maps does it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from convnext.nn.depthwise_dense import KERNEL_SIZE, PADDING, depthwise_conv
from convnext.nn.visible import VisiblePatches
from convnext.nn.workspace import workspace

HAS_TRITON = find_spec("triton") is not None  # as it is with PyTorch for CUDA

GROUP_ELEMENTS = 2**20  # of the tiles of the images that go through together; weight gradients hold more beside them
WEIGHT_GROUP_ELEMENTS = 3 * 2**18


def visible_depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None, patches: VisiblePatches) -> Tensor:
    """`[N, V, p, p, C]` to the same shape, with `weight` `[C, 1, 7, 7]` and `bias` `[C]`."""
    tables = place_tables(x, patches)
    if tables is None:
        maps = patches.fill(x).permute(0, 3, 1, 2)
        return patches.cut(depthwise_conv(maps, weight, bias).permute(0, 2, 3, 1))
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return _VisibleDepthwise.apply(x.contiguous(), weight, bias, *tables)


def place_tables(x: Tensor, patches: VisiblePatches) -> list[Tensor] | None:
    """What the operators of `x`'s device look places up in, built once for a batch and a patch size; or None."""
    if x.device.type == "cpu":
        return tile_tables(patches, x.shape[2])
    return slot_tables(patches) if x.device.type == "cuda" and HAS_TRITON else None


class _VisibleDepthwise(torch.autograd.Function):
    """The input's type rules, as in `depthwise_dense`."""

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
            dbias = grad.sum(dim=(0, 1, 2, 3), dtype=weight.dtype)
        return dx, dweight, dbias, *[None] * len(tables)


def tile_tables(patches: VisiblePatches, p: int) -> list[Tensor]:
    """What the CPU's operators gather, for patches of side `p`.

    The first table, `[N, T, th, tw]`, holds for each position of an image's T tiles its row among the image's
    visible positions, counted from 1, and 0 where there is none. The second, `[N, V·p·p]`, is there for whole maps
    alone: where the visible positions lie in the map.
    """

    def build() -> list[Tensor]:
        (h, w), (images, visible) = patches.grid, patches.index.shape
        rows = torch.arange(1, visible * p * p + 1, device=patches.index.device).view(1, visible, p, p, 1)
        maps = patches.fill(rows.expand(images, -1, -1, -1, -1)).squeeze(-1)
        positions = h * w * p * p
        if visible * (p + 2 * PADDING) ** 2 > 3 * positions:
            place = torch.arange(positions, device=maps.device).view(1, h * p, w * p, 1)
            return [maps.unsqueeze(1), patches.cut(place.expand(images, -1, -1, -1)).flatten(1)]
        padded = F.pad(maps, (PADDING,) * 4)
        around = padded.unfold(1, p + 2 * PADDING, p).unfold(2, p + 2 * PADDING, p).flatten(1, 2)
        return [around.gather(1, patches.index[..., None, None].expand(-1, -1, *around.shape[2:]))]

    return patches.tables(("tiles", p), build)


def slot_tables(patches: VisiblePatches) -> list[Tensor]:
    """What the CUDA kernels look neighbours up in: the visible patches' places, and the patch at each place."""

    def build() -> list[Tensor]:
        from convnext.nn.kernels.visible_depthwise import slot_table

        return [patches.index, slot_table(patches)]

    return patches.tables("slots", build)


def visible_depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, tables: list[Tensor]) -> Tensor:
    """The convolution on a CPU; `x` and the result are `[N, V, p, p, C]`, of one type, whatever the weight's."""
    tiles, *back = tables
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    images, channels = x.shape[0], x.shape[-1]
    _, count, height, width = tiles.shape
    out = torch.empty_like(x)
    group = max(1, GROUP_ELEMENTS // (count * height * width * channels))
    for first in range(0, images, group):
        here = slice(first, min(first + group, images))
        n = here.stop - first
        seen = _gather("tiles", x[here], tiles[here].reshape(n, -1)).view(n * count, height, width, channels)
        result = F.conv2d(
            seen.permute(0, 3, 1, 2), weight, bias, padding=PADDING if back else 0, groups=channels
        ).permute(0, 2, 3, 1)
        if back:
            place = back[0][here] + torch.arange(n).unsqueeze(1) * (height * width)
            torch.index_select(result.reshape(-1, channels), 0, place.view(-1), out=out[here].view(-1, channels))
        else:
            out[here] = result.reshape(x[here].shape)
    return out


def visible_depthwise_weight_gradient(x: Tensor, grad: Tensor, tables: list[Tensor]) -> Tensor:
    """`[C, 1, 7, 7]` in fp32 or more, from input and output gradient `[N, V, p, p, C]`, on a CPU.

    As for whole maps, it is the convolution of the input with the gradient as the filter, each tile's channels a
    channel of its own.
    """
    tiles, *back = tables
    images, channels, p = x.shape[0], x.shape[-1], x.shape[2]
    _, count, height, width = tiles.shape
    full = torch.promote_types(x.dtype, torch.float32)
    total = x.new_zeros(KERNEL_SIZE, KERNEL_SIZE, channels, dtype=full)
    group = max(1, WEIGHT_GROUP_ELEMENTS // (count * height * width * channels))
    for first in range(0, images, group):
        here = slice(first, min(first + group, images))
        n = here.stop - first
        # Positions first, then images and tiles side by side: channels-last memory of n · count · C channels.
        table = tiles[here].flatten(2).permute(2, 0, 1)
        signal = _gather("signal", x[here], table).view(1, height, width, -1)
        if back:
            filters, side = _gather("filters", grad[here], table), (height, width)
        else:
            filters, side = grad[here].permute(2, 3, 0, 1, 4), (p, p)
        filters = filters.reshape(1, *side, n * count * channels)
        each = F.conv2d(
            signal.permute(0, 3, 1, 2),
            filters.permute(3, 0, 1, 2),
            padding=PADDING if back else 0,
            groups=n * count * channels,
        )
        each = each.view(n * count, channels, KERNEL_SIZE, KERNEL_SIZE).permute(0, 2, 3, 1)
        total += each.sum(dim=0, dtype=full)
    return total.permute(2, 0, 1).unsqueeze(1)


def _gather(name: str, x: Tensor, table: Tensor) -> Tensor:
    """Rows of `x` `[n, V, p, p, C]` by their numbers in `table` `[..., n, K]`; in scratch memory of that name."""
    n, channels = x.shape[0], x.shape[-1]
    rows = 1 + x[0].numel() // channels
    source = workspace.take("source", (n, rows, channels), x.dtype)
    source[:, 0] = 0
    source[:, 1:] = x.view(n, -1, channels)
    table = table + (torch.arange(n) * rows).unsqueeze(1)
    out = workspace.take(name, (table.numel(), channels), x.dtype)
    return torch.index_select(source.view(-1, channels), 0, table.reshape(-1), out=out)


def _cuda_forward(x: Tensor, weight: Tensor, bias: Tensor | None, tables: list[Tensor]) -> Tensor:
    from convnext.nn.kernels.visible_depthwise import visible_depthwise_forward

    return visible_depthwise_forward(x, weight, bias, *tables)


def _cuda_weight_gradient(x: Tensor, grad: Tensor, tables: list[Tensor]) -> Tensor:
    from convnext.nn.kernels import visible_depthwise as kernels

    return kernels.visible_depthwise_weight_gradient(x, grad, *tables)


def _weight_gradient_fake(x: Tensor, grad: Tensor, tables: list[Tensor]) -> Tensor:
    full = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(KERNEL_SIZE, KERNEL_SIZE, x.shape[-1], dtype=full).permute(2, 0, 1).unsqueeze(1)


_library = torch.library.Library("convnext", "FRAGMENT")
_library.define("visible_depthwise(Tensor x, Tensor weight, Tensor? bias, Tensor[] tables) -> Tensor")
_library.define("visible_depthwise_weight_gradient(Tensor x, Tensor grad, Tensor[] tables) -> Tensor")
_library.impl("visible_depthwise", visible_depthwise, "CPU")
_library.impl("visible_depthwise", _cuda_forward, "CUDA")
_library.impl("visible_depthwise_weight_gradient", visible_depthwise_weight_gradient, "CPU")
_library.impl("visible_depthwise_weight_gradient", _cuda_weight_gradient, "CUDA")
torch.library.register_fake("convnext::visible_depthwise", lambda x, *_: torch.empty_like(x), lib=_library)
torch.library.register_fake("convnext::visible_depthwise_weight_gradient", _weight_gradient_fake, lib=_library)
