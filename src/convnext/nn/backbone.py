"""ConvNeXt without a head: images to four feature maps (ConvNeXt, section 2 and table 9).

Every map inside is channels-last: `[N, H, W, C]` for whole images, `[N, V, p, p, C]` for V visible patches of each
(`nn.visible_patches`). All layers but the convolutions act on the last axis, and only the depthwise one asks where the
patches lie. Parameter names and shapes are those of the official files.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from convnext.nn.block import Block
from convnext.nn.depthwise.visible_patches import place_tables
from convnext.nn.downsample import Downsample, NormLayer, PatchConv, patch_stem
from convnext.nn.exporting import is_exporting
from convnext.nn.norm import LayerNorm
from convnext.nn.visible_patches import VisiblePatches

INIT_STD: dict[type[nn.Conv2d] | type[nn.Linear], float] = {
    # Truncated normal; biases, GRN's gamma and beta start at 0, norms at 1 (the official initialisation).
    nn.Conv2d: 0.02,
    nn.Linear: 0.02,
}


def init_weights(network: nn.Module) -> None:
    """Initialise every convolution and linear layer from `INIT_STD`; all else starts right as constructed.

    Layers on the meta device wait for weights and are left; to draw theirs, PyTorch 2.11 would import its compiler.
    """
    for module in network.modules():
        for kind, std in INIT_STD.items():
            if isinstance(module, kind) and not module.weight.is_meta:
                nn.init.trunc_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class ConvNeXt(nn.Module):
    """The backbone.

    Args:
        depths: blocks in each stage; the papers' networks have four, isotropic ones one.
        dims: channels of each stage.
        version: 1 (LayerScale) or 2 (GRN).
        in_chans: channels of the images.
        stem: layers before the first stage; patches of `stem_patch`×`stem_patch` pixels and a norm if None.
        stem_patch: pixels of a side that become one position of the first stage: 4, or 2 or 1 for small images.
        norm: builds every norm, from its channels.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
        layer_scale_init: V1's first LayerScale value.
        checkpointing: recompute each block in the backward pass instead of storing its activations.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        dims: tuple[int, ...],
        *,
        version: int = 2,
        in_chans: int = 3,
        stem: Downsample | None = None,
        stem_patch: int = 4,
        norm: NormLayer = LayerNorm,
        drop_path_rate: float = 0.0,
        layer_scale_init: float = 1e-6,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.depths, self.dims = depths, dims
        self.engine: Callable[[Tensor, bool], list[Tensor]] | None = None  # computes whole images in the stages' place
        self.in_chans, self.stem_patch, self.checkpointing = in_chans, stem_patch, checkpointing
        self.total_stride = stem_patch * 2 ** (len(dims) - 1)

        stem = patch_stem(in_chans, dims[0], stem_patch, norm) if stem is None else stem
        between = [Downsample(norm(dim), PatchConv(dim, next_dim, 2)) for dim, next_dim in itertools.pairwise(dims)]
        self.downsample_layers = nn.ModuleList([stem, *between])

        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(
                *[
                    Block(dim, version=version, norm=norm, drop_path=next(rates), layer_scale_init=layer_scale_init)
                    for _ in range(depth)
                ]
            )
            for depth, dim in zip(depths, dims, strict=True)
        )

    def forward_stages(
        self, images: Tensor, patches: VisiblePatches | None = None, *, last_only: bool = False
    ) -> list[Tensor]:
        """Images `[N, in_chans, H, W]` to the output of each stage, `[N, H/s, W/s, C]` for strides s.

        H and W that are no multiple of the total stride are padded with zeros (the mean colour, once
        normalised) at the right and bottom, so that no pixel is lost and maps have `ceil(H/s)` rows.

        With `patches`, the network sees these alone, and maps are `[N, V, p, p, C]`: what it would give for
        whole maps that are set to zero at hidden positions before every depthwise convolution, with GRN's norm
        taken over visible positions.

        With `last_only`, maps but the last may be missing: an engine need not give them out.
        """
        images = self.padded(images)
        if self.engine is not None and patches is None:
            return self.engine(images, last_only)
        return self.run_stages(images, patches)

    def padded(self, images: Tensor) -> Tensor:
        """Images with zeros at the right and bottom, up to multiples of the total stride.

        `ValueError` if they are not `[N, in_chans, H, W]`.
        """
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ValueError(f"expected images [N, {self.in_chans}, H, W], got {list(images.shape)}")
        height, width = images.shape[-2:]
        stride = self.total_stride
        bottom, right = ((side + stride - 1) // stride * stride - side for side in (height, width))
        if bottom or right or is_exporting():  # an export has this branch, whatever size is traced
            images = F.pad(images, (0, right, 0, bottom))
        return images

    def run_stages(self, images: Tensor, patches: VisiblePatches | None = None) -> list[Tensor]:
        """`forward_stages`, of images whose sides are multiples of the total stride."""
        images = images.to(next(self.parameters()).dtype)
        x = images.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        if patches is not None:
            x = patches.cut(x)
        maps = []
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = downsample(x, patches)
            if patches is not None:
                place_tables(x, patches)  # before the blocks: one that is computed again must find what it found first
            for block in stage.children():
                x = self.run_block(block, x, patches)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Any:
        """`forward_stages`; networks with a head have a forward of their own."""
        return self.forward_stages(images)

    def run_block(self, block: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """The block's output; with `checkpointing`, training keeps nothing of its inside and computes it again."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Images to four maps `[N, C_i, H/4·2^i, W/4·2^i]` (at stem patch 4), channels-first in shape."""
        return [x.permute(0, 3, 1, 2) for x in self.forward_stages(images)]
