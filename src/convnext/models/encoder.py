"""The backbone under a detector or a segmenter."""

from __future__ import annotations

from pathlib import Path

from convnext.nn.backbone import ConvNeXt, init_weights
from convnext.variants import find_variant


def create_encoder(
    name: str,
    *,
    drop_path_rate: float = 0.0,
    layer_scale_init: float = 1e-6,
    checkpointing: bool = False,
    weights: str | Path | None = None,
) -> ConvNeXt:
    """A model of the family without a head.

    `weights` is anything `load_weights` takes; its head and last norm are left out. `InputError` for an unknown name,
    or weights that do not fit.
    """
    variant = find_variant(name)
    backbone = ConvNeXt(
        variant.depths,
        variant.dims,
        version=variant.version,
        drop_path_rate=drop_path_rate,
        layer_scale_init=layer_scale_init,
        checkpointing=checkpointing,
    )
    init_weights(backbone)
    if weights is not None:
        from convnext.weights import load_weights

        load_weights(backbone, weights)
    return backbone
