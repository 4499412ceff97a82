"""The reference method of encoding a masked image: whole maps, multiplied by the mask.

It computes every position to keep four in ten. It is here because it is plain to read: the visible-patch encoder is
tested against it, and `pretrain --encoder dense` trains by it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from convnext.nn.backbone import ConvNeXt
from convnext.nn.block import Block
from convnext.nn.downsample import OverlapConv
from convnext.nn.norm import grn_scale
from convnext.nn.visible_patches import VisiblePatches


def forward_masked_dense(backbone: ConvNeXt, images: Tensor, patches: VisiblePatches) -> Tensor:
    """Images `[N, in_chans, H, W]` to the last stage's map `[N, H/s, W/s, C_4]`, zero where hidden."""
    seen = (~patches.mask()).unsqueeze(-1)
    x = images.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    for downsample, stage in zip(backbone.downsample_layers, backbone.stages, strict=True):
        for layer in downsample.children():
            # Where one position looks at another, hidden ones must be zero.
            x = layer(x * _keep(seen, x) if isinstance(layer, OverlapConv) else x)
        keep = _keep(seen, x)
        for block in stage.children():
            x = backbone.run_block(masked_block, block, x, keep)
    return x * keep


def _keep(seen: Tensor, x: Tensor) -> Tensor:
    """The grid's mask `[N, h, w, 1]` at the size of the map `x`, `[N, H, W, C]`: 1 where visible, 0 where hidden."""
    side = x.shape[1] // seen.shape[1]
    return seen.repeat_interleave(side, 1).repeat_interleave(side, 2).to(x.dtype)


def masked_block(block: Block, x: Tensor, keep: Tensor) -> Tensor:
    """A block on a map `[N, H, W, C]` with `keep` `[N, H, W, 1]`: 1 where visible, 0 where hidden.

    Hidden positions must be zero where one position looks at another: before the convolution, and in GRN's norm,
    where they hold GELU's value of a bias otherwise. What comes out at hidden positions means nothing.
    """
    branch = F.gelu(block.pwconv1(block.norm(block.dwconv(x * keep))))
    if block.grn is not None:
        gx = torch.linalg.vector_norm(
            branch * keep, dim=(1, 2), keepdim=True, dtype=torch.promote_types(branch.dtype, torch.float32)
        )
        scale = grn_scale(gx, block.grn.gamma).to(branch.dtype)
        branch = torch.addcmul(block.grn.beta.to(branch.dtype), branch, scale)
    branch = block.pwconv2(branch)
    if block.gamma is not None:
        branch = branch * block.gamma.to(branch.dtype)
    return x + block.drop_path(branch)
