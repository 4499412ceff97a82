"""The family's backbones by name, and the one under a detector or a segmenter."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from convnext.errors import InputError
from convnext.nn.backbone import ConvNeXt, init_weights
from convnext.nn.downsample import Downsample, NormLayer, PatchConv, overlap_stem
from convnext.nn.norm import LayerNorm, RMSNorm, StdNorm
from convnext.variants import Variant, find_variant

OWN_STEM = 4
"""The stem patch that stands for the variant's own stem, whatever it is."""


def backbone_of(
    variant: Variant, *, in_chans: int = 3, stem_patch: int = OWN_STEM, layer_scale_init: float = 1e-6
) -> dict[str, Any]:
    """Arguments of `ConvNeXt` that make it the variant.

    Args:
        variant: a line of the family's table.
        in_chans: channels of the images.
        stem_patch: 4; 2 or 1 for small images, where the variant's stem is of patches.
        layer_scale_init: first LayerScale, where the variant has one.

    Raises:
        InputError: a stem patch for another stem.
    """
    norm = norm_of(variant)
    found: dict[str, Any] = {
        "depths": variant.depths,
        "dims": variant.dims,
        "version": variant.version,
        "in_chans": in_chans,
        "stem_patch": stem_patch,
        "norm": norm,
        "layer_scale_init": layer_scale_init if variant.layer_scale else 0.0,
    }
    if variant.stem == "patch":
        return found
    if stem_patch != OWN_STEM:
        raise InputError(f"{variant.name} has a stem of its own: leave stem_patch at {OWN_STEM}")
    if variant.stem == "isotropic":
        return found | {"stem": Downsample(PatchConv(in_chans, variant.dims[0], 16)), "stem_patch": 16}
    stem = overlap_stem(
        in_chans,
        variant.dims[0],
        norm,
        hidden=tiered_width(variant.dims[0]) if variant.stem == "tiered" else None,
        gelu=variant.stem == "gelu",
    )
    return found | {"stem": stem}


def norm_of(variant: Variant) -> NormLayer:
    """A function from a number of channels to the variant's normalisation layer."""
    return partial({"layer": LayerNorm, "rms": RMSNorm, "std": StdNorm}[variant.norm], eps=variant.eps)


def tiered_width(dim: int) -> int:
    """Channels after the first convolution of timm's tiered stem: half of the stage's, in eights, within a tenth."""
    width = max(8, (dim // 2 + 4) // 8 * 8)
    return width + 8 if width < 0.9 * (dim // 2) else width


def create_encoder(
    name: str,
    *,
    drop_path_rate: float = 0.0,
    layer_scale_init: float = 1e-6,
    checkpointing: bool = False,
    weights: str | Path | None = None,
) -> ConvNeXt:
    """A model of the family without a head, with the four maps that a pyramid takes.

    `weights` is anything `load_weights` takes; its head and last norm are left out. `InputError` for an unknown name,
    an isotropic model, or weights that do not fit.
    """
    variant = find_variant(name)
    if not variant.is_hierarchical:
        raise InputError(f"{name} has one map alone, at a sixteenth of the image: nothing to build a pyramid on")
    backbone = ConvNeXt(
        **backbone_of(variant, layer_scale_init=layer_scale_init),
        drop_path_rate=drop_path_rate,
        checkpointing=checkpointing,
    )
    init_weights(backbone)
    if weights is not None:
        from convnext.weights import load_weights

        load_weights(backbone, weights)
    return backbone
