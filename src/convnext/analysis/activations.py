"""Activation maps: what the channels of a block show of an image (ConvNeXt V2, figure 3)."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convnext.analysis.blocks import blocks_of, watching
from convnext.errors import InputError
from convnext.nn.backbone import ConvNeXt

SHOWN_CHANNELS = 64
"""Channels that are drawn, as in the paper's figure."""
CHANNEL_SIDE, CHANNEL_GAP = 64, 4  # pixels


@torch.no_grad()
def activation_maps(backbone: ConvNeXt, images: Tensor, block: int) -> Tensor:
    """The 4C features after GELU of a block, `[N, H, W, 4C]`, of whole images `[N, in_chans, H, W]`.

    Blocks count from 1; `InputError` for one that there is not.
    """
    blocks = blocks_of(backbone)
    if not 1 <= block <= len(blocks):
        raise InputError(f"the network has blocks 1 to {len(blocks)}, not {block}")
    found: list[Tensor] = []
    with watching(backbone, [blocks[block - 1][1].pwconv1], lambda _, wide: found.append(F.gelu(wide.float()))):
        backbone.run_stages(backbone.padded(images))
    return found[0]


def draw_channels(maps: Tensor) -> Image.Image:
    """The first channels of an image's maps `[H, W, C]` as a square of small pictures, each from its own least value,
    black, to its largest, white; a channel without any difference is grey."""
    channels = maps[..., :SHOWN_CHANNELS].permute(2, 0, 1).cpu()
    least, most = channels.amin((1, 2), keepdim=True), channels.amax((1, 2), keepdim=True)
    flat = most - least < 1e-6 * torch.maximum(most.abs(), least.abs())
    shown = torch.where(flat, 0.5, (channels - least) / (most - least).clamp(min=1e-12))
    across = math.ceil(math.sqrt(len(shown)))
    sheet = Image.new("L", (across * (CHANNEL_SIDE + CHANNEL_GAP) + CHANNEL_GAP,) * 2, 255)
    for i, channel in enumerate((shown * 255).round().byte().numpy().astype(np.uint8)):
        cell = Image.fromarray(channel).resize((CHANNEL_SIDE, CHANNEL_SIDE), Image.Resampling.NEAREST)
        sheet.paste(
            cell,
            (
                CHANNEL_GAP + i % across * (CHANNEL_SIDE + CHANNEL_GAP),
                CHANNEL_GAP + i // across * (CHANNEL_SIDE + CHANNEL_GAP),
            ),
        )
    return sheet
