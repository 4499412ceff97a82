"""Triton kernels of the depthwise 7x7 convolution of visible patches and of its weight gradient.

Patches are cut into tiles of T×T positions, and the image into a grid of such tiles. An output tile is a sum over the
visible tiles around it; hidden ones are left out before anything of them is read or computed. All loops over
positions and taps are unrolled, so that a thread holds a tile's outputs (or, for the weight gradient, its 49 sums) of
its channels in registers and reads each input of a neighbour once for all of them.

A program is one warp, for one block of channels and a run of tiles. Tiles that follow one another are neighbours, and
find in the cache what the ones before have read. There is nothing to exchange between warps.
"""

# Triton compiles kernels from their source; they have no types for mypy.
# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from convnext.nn.visible_patches import VisiblePatches

LARGEST_TILE = 4  # 16 outputs or 49 sums, of 2 channels, still fit a thread's registers beside what they need
CONVOLUTION_PROGRAMS = 8192  # some waves of them on a large GPU; beyond, runs of tiles grow
WEIGHT_GRADIENT_PROGRAMS = 1024  # less than one wave, since each writes 49 sums a channel to memory

# One warp; multiplications and additions fused whatever Triton's default.
VISIBLE_OPTIONS = {"num_warps": 1, "enable_fp_fusion": True}
VISIBLE_SIZES = ["tiles", "run", "visible", "h", "w"]  # arguments that no code is specialised for
VISIBLE_TAPS = tl.constexpr(49)
REACH = tl.constexpr(3)


def slot_table(patches: VisiblePatches) -> Tensor:
    """Int32 `[N, h, w]`: at each place of the grid which of the image's V visible patches lies there, or -1."""
    (images, visible), (h, w) = patches.index.shape, patches.grid
    device = patches.index.device
    slots = torch.arange(visible, dtype=torch.int32, device=device).expand(images, visible)
    table = torch.full((images, h * w), -1, dtype=torch.int32, device=device)
    return table.scatter(1, patches.index, slots).view(images, h, w)


def visible_depthwise_forward(x: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor, slots: Tensor) -> Tensor:
    """The convolution of visible patches, zero where the image is hidden or ends; with a flipped filter, its gradient.

    Sums are in fp32, or in fp64 for an fp64 input; weight and bias enter them unrounded.

    Args:
        x: contiguous `[N, V, p, p, C]`.
        weight: `[C, 1, 7, 7]`.
        bias: `[C]`.
        index: int64 `[N, V]`, the places of the patches, as in `VisiblePatches`.
        slots: int32 `[N, h, w]` from `slot_table`.

    Returns:
        A tensor like `x`.
    """
    channels = x.shape[-1]
    grid, sizes = _plan(x, slots, 8, CONVOLUTION_PROGRAMS)
    full = torch.promote_types(x.dtype, torch.float32)
    taps = weight.to(full).reshape(channels, -1).t().contiguous()
    start = taps.new_zeros(channels) if bias is None else bias.to(full)
    out = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _convolution[grid](x, taps, start, index, slots, out, *sizes, **VISIBLE_OPTIONS)
    return out


def visible_depthwise_weight_gradient(x: Tensor, grad: Tensor, index: Tensor, slots: Tensor) -> Tensor:
    """`[C, 1, 7, 7]` in fp32, or in fp64 for an fp64 input; the same bits every time.

    Args:
        x: contiguous `[N, V, p, p, C]`.
        grad: the output's gradient, contiguous `[N, V, p, p, C]`.
        index: int64 `[N, V]`, the places of the patches, as in `VisiblePatches`.
        slots: int32 `[N, h, w]` from `slot_table`.
    """
    grid, sizes = _plan(x, slots, 2, WEIGHT_GRADIENT_PROGRAMS)
    full = torch.promote_types(x.dtype, torch.float32)
    sums = x.new_empty(grid[0], 7, 7, x.shape[-1], dtype=full)
    with torch.cuda.device_of(x):
        _weight_gradient[grid](x, grad, index, slots, sums, *sizes, **VISIBLE_OPTIONS)
    return sums.sum(0).permute(2, 0, 1).unsqueeze(1).contiguous()


def _plan(x: Tensor, slots: Tensor, most: int, programs: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """How the work is cut: the grid of programs, runs of tiles × blocks of channels, and the kernels' sizes.

    Args:
        x: contiguous `[N, V, p, p, C]`.
        slots: int32 `[N, h, w]`.
        most: channels that a thread may have; small tiles take as many, for wide loads and few branches.
        programs: about how many to start.
    """
    images, visible, p, _, channels = x.shape
    side = next(side for side in range(LARGEST_TILE, 0, -1) if p % side == 0)
    tiles = images * visible * (p // side) ** 2
    widest = 32 * min(most, 8 // side)
    # The wider of two, or the narrower where that leaves fewer threads idle.
    block = min(widest, widest // 2, key=lambda block: triton.cdiv(channels, block) * block)
    blocks = triton.cdiv(channels, block)
    run = max(1, triton.cdiv(tiles * blocks, programs))
    return (triton.cdiv(tiles, run), blocks), (tiles, run, visible, *slots.shape[1:], p, channels, side, block)


@triton.jit(do_not_specialize=VISIBLE_SIZES)
def _convolution(
    x,
    weight,  # [49, C]
    bias,
    index,
    slots,
    out,
    tiles,
    run,
    visible,
    h,
    w,
    P: tl.constexpr,
    C: tl.constexpr,
    T: tl.constexpr,
    BLOCK: tl.constexpr,
):
    RINGS: tl.constexpr = (REACH + T - 1) // T
    first = tl.program_id(0) * run
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = c < C if C % BLOCK else None
    start = tl.load(bias + c, mask=there)
    for tile in range(first, tl.minimum(first + run, tiles)):
        patch, image, row, column = _locate(tile, index, visible, w, P // T)
        totals = ()
        for _ in tl.static_range(T * T):
            totals += (start,)
        for dy in tl.static_range(-RINGS, RINGS + 1):
            found = _find_row(slots, image, row + dy, column, h, w, P // T, RINGS)
            for dx in tl.static_range(-RINGS, RINGS + 1):
                if found[dx + RINGS] >= 0:
                    neighbour = image * visible + found[dx + RINGS]
                    values = _read(x, neighbour, row + dy, column + dx, c, there, start.dtype, P, C, T)
                    totals = _convolve(totals, values, weight + c, there, dy, dx, C, T)
        place = out + _offset(patch, row, column, P, C, T) + c
        for k in tl.static_range(T * T):
            tl.store(place + (k // T * P + k % T) * C, totals[k], mask=there)


@triton.jit(do_not_specialize=VISIBLE_SIZES)
def _weight_gradient(
    x,
    grad,
    index,
    slots,
    sums,  # [runs, 49, C]
    tiles,
    run,
    visible,
    h,
    w,
    P: tl.constexpr,
    C: tl.constexpr,
    T: tl.constexpr,
    BLOCK: tl.constexpr,
):
    RINGS: tl.constexpr = (REACH + T - 1) // T
    first = tl.program_id(0) * run
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = c < C if C % BLOCK else None
    start = tl.full((BLOCK,), 0, sums.dtype.element_ty)
    totals = ()
    for _ in tl.static_range(VISIBLE_TAPS):
        totals += (start,)
    for tile in range(first, tl.minimum(first + run, tiles)):
        patch, image, row, column = _locate(tile, index, visible, w, P // T)
        grads = _read(grad, patch, row, column, c, there, start.dtype, P, C, T)
        for dy in tl.static_range(-RINGS, RINGS + 1):
            found = _find_row(slots, image, row + dy, column, h, w, P // T, RINGS)
            for dx in tl.static_range(-RINGS, RINGS + 1):
                if found[dx + RINGS] >= 0:
                    neighbour = image * visible + found[dx + RINGS]
                    values = _read(x, neighbour, row + dy, column + dx, c, there, start.dtype, P, C, T)
                    totals = _correlate(totals, values, grads, dy, dx, T)
    for tap in tl.static_range(VISIBLE_TAPS):
        tl.store(sums + (tl.program_id(0) * VISIBLE_TAPS + tap) * C + c, totals[tap], mask=there)


@triton.jit
def _locate(tile, index, visible, w, TILES: tl.constexpr):
    """A tile's patch and image, and its row and column on the image's grid of tiles; a patch has TILES a side."""
    patch = tile // (TILES * TILES)
    within = tile % (TILES * TILES)
    place = tl.load(index + patch).to(tl.int32)
    row = place // w * TILES + within // TILES
    column = place % w * TILES + within % TILES
    return patch, patch // visible, row, column


@triton.jit
def _find_row(slots, image, row, column, h, w, TILES: tl.constexpr, RINGS: tl.constexpr):
    """The slots of the tiles up to RINGS to the left and right; negative where hidden or outside.

    They are all looked up before the first is used, so that their latencies overlap.
    """
    seen = (row >= 0) & (row < h * TILES)
    place = (image * h + row // TILES) * w
    found = ()
    for dx in tl.static_range(-RINGS, RINGS + 1):
        beside = column + dx
        inside = seen & (beside >= 0) & (beside < w * TILES)
        found += (tl.load(slots + (place + beside // TILES), mask=inside, other=-1),)
    return found


@triton.jit
def _offset(patch, row, column, P: tl.constexpr, C: tl.constexpr, T: tl.constexpr):
    """Address at which a tile begins, given its patch and its row and column on the grid of tiles."""
    return ((patch.to(tl.int64) * P + row % (P // T) * T) * P + column % (P // T) * T) * C


@triton.jit
def _read(x, patch, row, column, c, there, dtype: tl.constexpr, P: tl.constexpr, C: tl.constexpr, T: tl.constexpr):
    """A tile's T·T positions; the compiler drops the loads of those that go unused."""
    place = x + _offset(patch, row, column, P, C, T) + c
    values = ()
    for k in tl.static_range(T * T):
        values += (tl.load(place + (k // T * P + k % T) * C, mask=there).to(dtype),)
    return values


@triton.jit
def _convolve(totals, values, weight, there, dy: tl.constexpr, dx: tl.constexpr, C: tl.constexpr, T: tl.constexpr):
    """Outputs, with what the tile (dy, dx) away adds to them."""
    taps = ()
    for tap in tl.static_range(VISIBLE_TAPS):
        if _reaches(tap, dy, dx, T):
            taps += (tl.load(weight + tap * C, mask=there),)
        else:
            taps += (0,)
    results = ()
    for k in tl.static_range(T * T):
        total = totals[k]
        for tap in tl.static_range(VISIBLE_TAPS):
            if _source(k, tap, dy, dx, T) >= 0:
                total += values[_source(k, tap, dy, dx, T)] * taps[tap]
        results += (total,)
    return results


@triton.jit
def _correlate(totals, values, grads, dy: tl.constexpr, dx: tl.constexpr, T: tl.constexpr):
    """Sums of the 49 taps, with what the tile (dy, dx) away adds to them."""
    results = ()
    for tap in tl.static_range(VISIBLE_TAPS):
        total = totals[tap]
        for k in tl.static_range(T * T):
            if _source(k, tap, dy, dx, T) >= 0:
                total += values[_source(k, tap, dy, dx, T)] * grads[k]
        results += (total,)
    return results


@triton.constexpr_function
def _source(k, tap, dy, dx, T):
    """Position in the tile (dy, dx) away that the output at position k reads through a tap; -1 if none."""
    i, j = k // T + tap // 7 - 3 - dy * T, k % T + tap % 7 - 3 - dx * T
    return i * T + j if 0 <= i < T and 0 <= j < T else -1


@triton.constexpr_function
def _reaches(tap, dy, dx, T):
    """Whether any output reads the tile (dy, dx) away through a tap."""
    return any(_source(k, tap, dy, dx, T) >= 0 for k in range(T * T))
