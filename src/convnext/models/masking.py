"""Random masks of FCMAE (ConvNeXt V2, section 3.1)."""

from __future__ import annotations

import torch

from convnext.nn.visible_patches import VisiblePatches


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
