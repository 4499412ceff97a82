"""Regions of a pyramid's maps, pooled to one size by RoIAlign (He et al. 2017, section 3).

A cell's value lies at its middle (`aligned`), as in the published detectors: torchvision's take its corner, half a cell
off. On a CPU a kernel in C does it (`roi_align.c`), on all cores and with the channels of a point side by side, as they
lie; elsewhere, and where that cannot be built, torchvision's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from convnext.native import SOURCES
from convnext.native import compile as build

LEVELS = ("0", "1", "2", "3")
"""Levels of the pyramid that regions are pooled from."""
STRIDES = (4, 8, 16, 32)
"""Strides of those levels."""
SAMPLES = 2  # as in roi_align.c
"""Sampling points of a cell, on each side."""
ROI_ALIGN_SOURCE = SOURCES / "roi_align.c"
MAX_ROI_SIDE = 64  # cells, as in roi_align.c


class RegionPool(nn.Module):
    """Regions of any size to `side` × `side` cells, each the mean of `samples` × `samples` points.

    With 0 samples a cell has as many as it is wide and high on the map, rounded up, which is slower. The level is
    chosen by the region's size (Lin et al. 2017, equation 1).
    """

    def __init__(self, side: int, samples: int = SAMPLES) -> None:
        super().__init__()
        self.side, self.samples = side, samples
        self.level_of = LevelMapper(2, 5)

    def forward(self, features: dict[str, Tensor], regions: list[Tensor]) -> Tensor:
        """Maps `[N, C, H, W]` by level and each image's boxes `[r, 4]` to `[R, C, side, side]`."""
        maps = [features[level] for level in LEVELS]
        boxes = torch.cat(regions).float().contiguous()
        counts = torch.tensor([len(each) for each in regions], device=boxes.device)
        image = torch.repeat_interleave(counts)
        level = self.level_of(regions).clamp(0, len(LEVELS) - 1)  # what is not a number would have none
        in_c = self.samples == SAMPLES and boxes.device.type == "cpu"
        if in_c and len(boxes) and build.library(ROI_ALIGN_SOURCE) is not None:
            last = [x.float().permute(0, 2, 3, 1).contiguous() for x in maps]
            return _RoIAlign.apply(self.side, boxes, image, level, *last).permute(0, 3, 1, 2).to(maps[0].dtype)
        return torchvision_pool(self.side, boxes, image, level, maps, self.samples)


def torchvision_pool(
    side: int, regions: Tensor, image: Tensor, level: Tensor, maps: list[Tensor], samples: int = SAMPLES
) -> Tensor:
    """Pooling by torchvision: R regions `[R, 4]` with their image and level to `[R, C, side, side]`."""
    regions = torch.nan_to_num(regions, 0, 0, 0)  # of which torchvision's kernel for CPUs dies
    places = torch.cat([image[:, None].to(regions.dtype), regions], 1)
    pooled = maps[0].new_zeros(regions.shape[0], maps[0].shape[1], side, side)
    for i, (x, stride) in enumerate(zip(maps, STRIDES, strict=True)):
        on = torch.where(level == i)[0]
        # The places in the maps' type would lie pixels off in bf16.
        pooled[on] = roi_align(x.float(), places[on], side, 1 / stride, samples, aligned=True).to(pooled.dtype)
    return pooled


class _RoIAlign(torch.autograd.Function):
    """fp32 maps `[N, H, W, C]` and R regions with their image and level to `[R, side, side, C]`."""

    @staticmethod
    def forward(ctx: Any, side: int, regions: Tensor, image: Tensor, level: Tensor, *maps: Tensor) -> Tensor:
        ctx.save_for_backward(regions, image, level)
        ctx.shapes = [x.shape for x in maps]
        out = maps[0].new_empty(len(regions), side, side, maps[0].shape[-1])
        _call("roi_align", maps, regions, image, level, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        regions, image, level = ctx.saved_tensors
        maps = [grad.new_zeros(shape) for shape in ctx.shapes]
        _call("roi_align_gradient", maps, regions, image, level, grad.contiguous())
        return None, None, None, None, *maps


class _Level(ctypes.Structure):
    _fields_ = [("height", ctypes.c_int64), ("width", ctypes.c_int64), ("scale", ctypes.c_float)]


def _call(name: str, maps: Sequence[Tensor], regions: Tensor, image: Tensor, level: Tensor, pooled: Tensor) -> None:
    tensors = (regions, image, level, pooled)
    if not all(t.is_contiguous() for t in (*maps, *tensors)) or pooled.shape[1] > MAX_ROI_SIDE:
        raise ValueError(f"regions are pooled to {MAX_ROI_SIDE} cells a side at most, from contiguous tensors")
    if len({(x.shape[0], x.shape[3], x.dtype) for x in (*maps,)}) != 1 or min(map(min, (x.shape for x in maps))) < 1:
        raise ValueError(f"maps {[list(x.shape) for x in maps]} are not of the same images and channels, or empty")
    if len(image) and not (int(image.min()) >= 0 and int(image.max()) < len(maps[0])):
        raise ValueError(f"there are regions of images that {len(maps[0])} maps do not have")
    levels = (_Level * len(maps))(*[_Level(*x.shape[1:3], 1 / stride) for x, stride in zip(maps, STRIDES, strict=True)])
    getattr(build.library(ROI_ALIGN_SOURCE), name)(
        (ctypes.c_void_p * len(maps))(*[x.data_ptr() for x in maps]),
        levels,
        *[ctypes.c_void_p(t.data_ptr()) for t in tensors],
        *[ctypes.c_int64(size) for size in (len(regions), pooled.shape[-1])],
        pooled.shape[1],
        torch.get_num_threads(),
    )
