"""Which member of the family a state dict is, from its shapes alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from convnext.errors import WeightsError
from convnext.variants import VARIANTS

_FIRST_OF_STAGE = re.compile(r"stages\.(\d+)\.0\.dwconv\.weight")
_BLOCK = re.compile(r"stages\.(\d+)\.\d+\.dwconv\.weight")

STEM = "downsample_layers.0.0.weight"


@dataclass(frozen=True)
class Architecture:
    """A classifier of the family: what `create_model` needs to build it again."""

    variant: str
    version: int
    num_classes: int
    in_chans: int
    stem_patch: int
    layer_scale: bool


def describe(state: dict[str, Tensor]) -> Architecture:
    """The architecture of an official-layout `state`; `num_classes` is 0 when there is no head.

    Raises:
        WeightsError: not a ConvNeXt, or one whose depths and widths are not in the family's table.
    """
    stem = state.get(STEM)
    firsts = {int(m[1]): tensor for key, tensor in state.items() if (m := _FIRST_OF_STAGE.fullmatch(key))}
    widths = {stage: tensor.shape[0] for stage, tensor in firsts.items() if tensor.ndim == 4}
    if stem is None or stem.ndim != 4 or not widths:
        raise WeightsError("not a ConvNeXt of the family: it has no stem or no blocks under the official names")
    blocks = [int(m[1]) for key in state if (m := _BLOCK.fullmatch(key))]
    dims = tuple(widths[stage] for stage in sorted(widths))
    depths = tuple(blocks.count(stage) for stage in sorted(widths))
    inside = [key for key in state if key.startswith("stages.")]  # a pre-training decoder has GRN of its own
    version = 2 if any(".grn." in key for key in inside) else 1
    for variant in VARIANTS.values():
        if (variant.version, variant.depths, variant.dims) == (version, depths, dims):
            head = state.get("head.weight")
            return Architecture(
                variant=variant.name,
                version=version,
                num_classes=0 if head is None else head.shape[0],
                in_chans=stem.shape[1],
                stem_patch=stem.shape[2],
                layer_scale=any(key.endswith(".gamma") and ".grn." not in key for key in inside),
            )
    raise WeightsError(f"not a ConvNeXt of the family: V{version} with depths {depths} and widths {dims}")
