"""Places of the visible patches of masked images (ConvNeXt V2, section 3.1).

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
        """Result of `build`, built once: an operator's own tables of the places of these patches."""
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
