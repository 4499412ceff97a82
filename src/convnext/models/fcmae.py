"""FCMAE: a fully convolutional masked autoencoder (ConvNeXt V2, section 3).

The encoder sees visible patches alone; a decoder of one block sees their features, with a mask token where the
image was hidden, and predicts the hidden pixels. Parameters are named as in the official files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.errors import WeightsError
from convnext.models.encoder import backbone_of
from convnext.models.masking import random_patches
from convnext.nn.backbone import ConvNeXt, init_weights
from convnext.nn.block import Block
from convnext.nn.masked_dense import forward_masked_dense
from convnext.nn.parameters import BACKBONE
from convnext.nn.visible_patches import VisiblePatches
from convnext.variants import find_variant

Mask = Tensor | VisiblePatches | None
"""Hidden patches: bool `[N, h, w]`, True where hidden; or the visible ones; None draws some."""

TARGET_EPS = 1e-6  # added to the variance of a patch's pixels


class PositionConv(nn.Conv2d):
    """Convolution of kernel 1, `[..., in]` to `[..., out]`."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(1), self.bias)


class FCMAE(nn.Module):
    """Masked autoencoder around a ConvNeXt.

    Args:
        encoder: the backbone to pre-train.
        mask_ratio: share of patches hidden.
        patch_size: side of the patches that are hidden or seen whole; a multiple of the encoder's total stride.
        decoder_dim: the decoder's width.
        decoder_depth: its blocks.
        norm_pix_loss: predict each patch's pixels with their mean 0 and variance 1.
        masked_dense: encode by the reference method, whole maps multiplied by the mask, in training too.
    """

    parameter_rules = BACKBONE.extended(
        ((r"^(proj|pred)\.weight$", True), (r"^mask_token$", True))  # the token as in the released code
    )

    def __init__(
        self,
        encoder: ConvNeXt,
        *,
        mask_ratio: float = 0.6,
        patch_size: int = 32,
        decoder_dim: int = 512,
        decoder_depth: int = 1,
        norm_pix_loss: bool = True,
        masked_dense: bool = False,
    ) -> None:
        super().__init__()
        stride = encoder.total_stride
        if patch_size < stride or patch_size % stride:
            raise ValueError(f"patch_size must be a multiple of the network's stride {stride}, not {patch_size}")
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie between 0 and 1, not {mask_ratio}")
        self.mask_ratio, self.patch_size = mask_ratio, patch_size
        self.norm_pix_loss, self.masked_dense = norm_pix_loss, masked_dense
        self.depths, self.in_chans = encoder.depths, encoder.in_chans
        self.encoder = encoder
        self.proj = PositionConv(encoder.dims[-1], decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, decoder_dim, 1, 1))
        self.decoder = nn.Sequential(*[Block(decoder_dim) for _ in range(decoder_depth)])
        self.pred = PositionConv(decoder_dim, stride**2 * encoder.in_chans)
        init_weights(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, mask: Mask = None) -> tuple[Tensor, Tensor, Tensor]:
        """Hide patches, and predict their pixels.

        Args:
            images: `[N, in_chans, H, W]`, H and W multiples of `patch_size`.
            mask: bool `[N, h, w]` for h×w patches, True where hidden, the same number in every image; or the visible
                patches; None draws a mask for each image.

        Returns:
            The loss: mean squared error over hidden patches, in fp32. The prediction `[N, h·w, patch_size²·in_chans]`,
            pixels row by row, channels together; zero at visible patches, which no loss reaches. The mask.

        Raises:
            ValueError: a size that `patch_size` does not divide, a mask of another shape, or one that hides nothing.
        """
        patches = self.patches(images, mask)
        if patches.index.shape[1] == patches.grid[0] * patches.grid[1]:
            raise ValueError("the mask hides nothing: there is nothing to predict")
        hidden = patches.complement()
        prediction = self.decode(self.encode_patches(images, patches), patches, hidden)
        loss = F.mse_loss(prediction.float(), self.target(images, hidden))
        return loss, hidden.scatter(prediction), patches.mask()

    def patches(self, images: Tensor, mask: Mask) -> VisiblePatches:
        """The visible patches of a mask that fits the images, or of a random one."""
        grid = self.grid(images)
        if mask is None:
            return random_patches(len(images), grid, self.mask_ratio, device=images.device)
        if isinstance(mask, VisiblePatches):
            if (len(mask.index), *mask.grid) != (len(images), *grid):
                raise ValueError(
                    f"expected patches of {len(images)} images on {grid}, got {len(mask.index)} on {mask.grid}"
                )
            return mask
        if mask.shape != (len(images), *grid):
            raise ValueError(f"expected a mask {[len(images), *grid]} for these images, got {list(mask.shape)}")
        return VisiblePatches.from_mask(mask.to(images.device))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patches down and across. `ValueError` for images of another kind or size."""
        size = self.patch_size
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ValueError(f"expected images [N, {self.in_chans}, H, W], got {list(images.shape)}")
        height, width = images.shape[-2:]
        if height % size or width % size or not height or not width:
            down, across = (max(side // size * size, size) for side in (height, width))
            raise ValueError(
                f"images of {height}×{width} pixels do not divide into patches of {size}; "
                f"{down}×{across} or {down + size}×{across + size} would"
            )
        return height // size, width // size

    def encode(self, images: Tensor, mask: Mask = None) -> Tensor:
        """Images and mask to the last stage's map `[N, C_4, H/s, W/s]`, zero where hidden."""
        patches = self.patches(images, mask)
        return patches.fill(self.encoder.forward_stages(images, patches)[-1]).permute(0, 3, 1, 2)

    def encode_patches(self, images: Tensor, patches: VisiblePatches) -> Tensor:
        """The last stage's features of the visible patches, `[N, V, p, p, C_4]`."""
        if self.masked_dense:
            return patches.cut(forward_masked_dense(self.encoder, images, patches))
        return self.encoder.forward_stages(images, patches)[-1]

    def decode(self, features: Tensor, patches: VisiblePatches, hidden: VisiblePatches) -> Tensor:
        """Features of visible patches to the pixels of the M hidden ones, `[N, M, patch_size²·in_chans]`."""
        x = patches.fill(self.proj(features), background=self.mask_token.flatten())
        x = self.pred(hidden.cut(self.decoder(x)))
        stride = self.encoder.total_stride
        return x.unflatten(-1, (stride, stride, self.in_chans)).transpose(3, 4).flatten(2)

    def target(self, images: Tensor, hidden: VisiblePatches) -> Tensor:
        """Targets of the prediction, fp32 `[N, M, patch_size²·in_chans]`."""
        pixels = hidden.cut(images.permute(0, 2, 3, 1)).flatten(2).float()
        if self.norm_pix_loss:
            mean, deviation = pixel_statistics(pixels)
            pixels = (pixels - mean) / deviation
        return pixels

    @torch.no_grad()
    def reconstruct(self, images: Tensor, mask: Mask = None) -> tuple[Tensor, Tensor]:
        """Images with their hidden patches as predicted `[N, in_chans, H, W]`, and the mask; visible ones as they are.

        With `norm_pix_loss`, a prediction is of normalised pixels: mean and deviation of the true patch are put back.
        """
        patches = self.patches(images, mask)
        hidden, size = patches.complement(), self.patch_size
        pixels = self.decode(self.encode_patches(images, patches), patches, hidden).float()
        if self.norm_pix_loss:
            mean, deviation = pixel_statistics(hidden.cut(images.permute(0, 2, 3, 1)).flatten(2).float())
            pixels = pixels * deviation + mean
        maps = hidden.fill(pixels.unflatten(-1, (size, size, self.in_chans))).permute(0, 3, 1, 2)
        places = patches.mask()
        covered = places.repeat_interleave(size, 1).repeat_interleave(size, 2)
        return torch.where(covered[:, None], maps, images), places


def pixel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch's pixels, `[N, M, P]` to `[N, M, 1]`."""
    variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
    return mean, (variance + TARGET_EPS).sqrt()


def create_fcmae(
    name: str,
    *,
    in_chans: int = 3,
    mask_ratio: float = 0.6,
    patch_size: int = 32,
    decoder_dim: int = 512,
    decoder_depth: int = 1,
    norm_pix_loss: bool = True,
    stem_patch: int = 4,
    drop_path_rate: float = 0.0,
    layer_scale_init: float = 1e-6,
    checkpointing: bool = False,
    masked_dense: bool = False,
) -> FCMAE:
    """Build the pre-training model of a member of the family; V1 too.

    Args:
        name: one of `list_models()`.
        in_chans: channels of the images.
        mask_ratio: share of patches hidden, in (0, 1).
        patch_size: side of a patch; a multiple of the network's stride (32 at stem patch 4).
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        norm_pix_loss: normalise each patch's target.
        stem_patch: 4; 2 or 1 for small images.
        drop_path_rate: stochastic depth of the encoder's last block.
        layer_scale_init: V1 only.
        checkpointing: trade time for memory in training.
        masked_dense: encode by the reference method.

    Raises:
        InputError: unknown name.
        ValueError: a mask ratio or patch size that cannot be.
    """
    backbone = backbone_of(
        find_variant(name), in_chans=in_chans, stem_patch=stem_patch, layer_scale_init=layer_scale_init
    )
    encoder = ConvNeXt(**backbone, drop_path_rate=drop_path_rate, checkpointing=checkpointing)
    return FCMAE(
        encoder,
        mask_ratio=mask_ratio,
        patch_size=patch_size,
        decoder_dim=decoder_dim,
        decoder_depth=decoder_depth,
        norm_pix_loss=norm_pix_loss,
        masked_dense=masked_dense,
    )


def load_fcmae(source: str | Path) -> tuple[FCMAE, dict[str, Any]]:
    """A pre-trained model with its decoder from a run or weight file, and what is known of its use.

    Raises:
        WeightsError: nothing there, not a ConvNeXt, or no decoder inside.
    """
    from convnext.weights import describe, load_weights
    from convnext.weights.files import locate, read_file, read_meta

    path = locate(source)
    state = read_file(path, decoder=True).state
    meta = read_meta(path)
    if "mask_token" not in state:
        raise WeightsError(f"{source} holds no decoder: it is no pre-training run (convnext pretrain)")
    architecture = describe(state)
    try:
        model = create_fcmae(
            architecture.variant,
            in_chans=architecture.in_chans,
            stem_patch=architecture.stem_patch,
            layer_scale_init=1e-6 if architecture.layer_scale else 0.0,
            mask_ratio=meta.get("mask_ratio", 0.6),
            patch_size=meta.get("patch_size", 8 * architecture.stem_patch),
            norm_pix_loss=meta.get("norm_pix_loss", True),
            decoder_dim=state["mask_token"].numel(),
            decoder_depth=sum(key.startswith("decoder.") and key.endswith(".dwconv.weight") for key in state),
        )
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{source}: {error}") from None
    load_weights(model, path)
    return model, meta
