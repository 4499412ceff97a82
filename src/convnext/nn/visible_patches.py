"""Where the visible patches of masked images lie (ConvNeXt V2, section 3.1).

A mask hides whole patches, decided on a grid of h×w; every image keeps V of them. Inside the network the visible
patches are `[N, V, p, p, C]`, whatever p a stage has, and all layers but the depthwise convolution treat them like
whole maps `[N, H, W, C]`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class VisiblePatches:
    """The places of the visible patches of N images.

    Args:
        index: int64 `[N, V]`, places on the grid counted row by row, ascending.
        grid: h and w.
    """

    def __init__(self, index: Tensor, grid: tuple[int, int]) -> None:
        self.index, self.grid = index.contiguous(), grid
        self._tables: dict[Hashable, list[Tensor]] = {}

    @classmethod
    def from_mask(cls, hidden: Tensor) -> VisiblePatches:
        """From a mask bool `[N, h, w]`, True where hidden.

        Raises:
            ValueError: another shape or type, or images that do not all keep the same number of patches, at least 1.
        """
        if hidden.dtype != torch.bool or hidden.ndim != 3:
            raise ValueError(f"expected a mask bool [N, h, w], got {hidden.dtype} {list(hidden.shape)}")
        visible = ~hidden.flatten(1)
        counts = visible.sum(1)
        fewest, most = int(counts.min()), int(counts.max())
        if fewest != most or fewest == 0:
            raise ValueError(f"every image must keep the same number of patches, at least 1, not {fewest} to {most}")
        return cls(visible.nonzero()[:, 1].view(-1, fewest), (hidden.shape[1], hidden.shape[2]))

    def tables(self, key: Hashable, build: Callable[[], list[Tensor]]) -> list[Tensor]:
        """What `build` gives, built once: an operator's own tables of where these patches lie."""
        if key not in self._tables:
            self._tables[key] = build()
        return self._tables[key]

    def mask(self) -> Tensor:
        """Bool `[N, h, w]`, True where hidden."""
        images, (h, w) = self.index.shape[0], self.grid
        hidden = torch.ones(images, h * w, dtype=torch.bool, device=self.index.device)
        return hidden.scatter(1, self.index, False).view(images, h, w)

    def complement(self) -> VisiblePatches:
        """The other patches of the same grid: the hidden ones, M = h·w - V of each image."""
        hidden = self.mask().flatten(1)
        # A stable sort puts the hidden places first, in order, and keeps the shape known to compilers.
        order = (~hidden).byte().argsort(dim=1, stable=True)
        return VisiblePatches(order[:, : hidden.shape[1] - self.index.shape[1]], self.grid)

    def scatter(self, rows: Tensor) -> Tensor:
        """One vector a patch `[N, V, K]` to all places `[N, h·w, K]`, zero elsewhere."""
        (h, w), (images, _, width) = self.grid, rows.shape
        return rows.new_zeros(images, h * w, width).scatter(1, self.index[..., None].expand_as(rows), rows)

    def cut(self, maps: Tensor) -> Tensor:
        """Whole maps `[N, h·p, w·p, C]` to their visible patches `[N, V, p, p, C]`."""
        h, w = self.grid
        patches = maps.unflatten(2, (w, -1)).unflatten(1, (h, -1)).transpose(2, 3)
        return patches[self._place()]

    def fill(self, patches: Tensor, background: Tensor | None = None) -> Tensor:
        """Visible patches `[N, V, p, p, C]` to whole maps `[N, h·p, w·p, C]`, `background` `[C]` or 0 where hidden."""
        (h, w), (images, _, p, _, channels) = self.grid, patches.shape
        blank = patches.new_zeros(()) if background is None else background.to(patches.dtype)
        maps = blank.expand(images, h, w, p, p, channels).clone().index_put(self._place(), patches)
        return maps.transpose(2, 3).reshape(images, h * p, w * p, channels)

    def _place(self) -> tuple[Tensor, Tensor, Tensor]:
        image = torch.arange(len(self.index), device=self.index.device)[:, None]
        w = self.grid[1]
        return image, self.index // w, self.index % w


def visible_count(patches: int, mask_ratio: float) -> int:
    """How many of an image's patches stay visible: 19 of 49 at a ratio of 0.6 (section 3.1)."""
    return int(patches * (1 - mask_ratio))


def random_patches(
    images: int,
    grid: tuple[int, int],
    mask_ratio: float,
    *,
    block: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> VisiblePatches:
    """Visible patches drawn for each image by itself.

    Args:
        images: N.
        grid: h and w.
        mask_ratio: share of hidden patches, in (0, 1).
        block: hide squares of so many patches a side together, as far as the number to hide allows.
        generator: what to draw from; a CPU generator gives the same patches on every device.
        device: where the places are to lie.

    Raises:
        ValueError: a ratio outside (0, 1), or one that leaves no patch.
    """
    h, w = grid
    if not 0 < mask_ratio < 1:
        raise ValueError(f"the mask ratio must lie between 0 and 1, not {mask_ratio}")
    keep = visible_count(h * w, mask_ratio)
    if not keep:
        raise ValueError(f"a mask ratio of {mask_ratio} leaves none of {h}×{w} patches visible")
    rank = torch.rand(images, h, w, generator=generator)
    if block > 1:
        # All patches of a block get the block's rank; the blocks' raster is shifted for each image by itself.
        blocks = torch.rand(images, h // block + 2, w // block + 2, generator=generator)
        shift = torch.randint(block, (2, images, 1, 1), generator=generator)
        y = (torch.arange(h).view(1, h, 1) + shift[0]) // block
        x = (torch.arange(w).view(1, 1, w) + shift[1]) // block
        rank = blocks[torch.arange(images).view(-1, 1, 1), y, x] + 1e-4 * rank
    index = rank.flatten(1).argsort(dim=1)[:, :keep].sort(dim=1).values
    return VisiblePatches(index.to(device), grid)
