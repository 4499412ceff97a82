"""The family's member that a state dict is of, by its shapes alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from convnext.errors import WeightsError
from convnext.variants import VARIANTS, Variant
from convnext.weights.key_tables import OVERLAP_CONV, STEM, State

_FIRST_OF_STAGE = re.compile(r"stages\.(\d+)\.0\.dwconv\.weight")
_BLOCK = re.compile(r"stages\.(\d+)\.\d+\.dwconv\.weight")


@dataclass(frozen=True)
class Architecture:
    """A classifier of the family: what `create_model` needs to build it again."""

    variant: str
    version: int
    num_classes: int
    in_chans: int
    stem_patch: int
    layer_scale: bool


def describe(state: State) -> Architecture:
    """The architecture of an official-layout `state`; `num_classes` is 0 when there is no head.

    Raises:
        WeightsError: not a ConvNeXt, or one whose depths and widths are not in the family's table.
    """
    stem = state.get(STEM)
    firsts = {int(m[1]): tensor for key, tensor in state.items() if (m := _FIRST_OF_STAGE.fullmatch(key))}
    widths = {stage: tensor.shape[0] for stage, tensor in firsts.items() if tensor.ndim == 4}
    if stem is None or stem.ndim != 4 or not widths:
        others = [key for key in state if not key.startswith(("downsample_layers.", "stages.", "norm.", "head."))][:3]
        names = f"; no layout has a name for {', '.join(others)}" if others else ""
        raise WeightsError(f"not a ConvNeXt of the family: no stem or no blocks in a layout that is known here{names}")
    blocks = [int(m[1]) for key in state if (m := _BLOCK.fullmatch(key))]
    dims = tuple(widths[stage] for stage in sorted(widths))
    depths = tuple(blocks.count(stage) for stage in sorted(widths))
    inside = [key for key in state if key.startswith("stages.")]  # a pre-training decoder has GRN of its own
    version = 2 if any(".grn." in key for key in inside) else 1
    sizes = [v for v in VARIANTS.values() if (v.version, v.depths, v.dims) == (version, depths, dims)]
    variant = next((variant for variant in sizes if _fits(variant, state)), None)
    if variant is None:
        kind = f" as {sizes[0].name} has, but another stem, norm or head" if sizes else ""
        raise WeightsError(f"not a ConvNeXt of the family: V{version} with depths {depths} and widths {dims}{kind}")
    head = state.get("head.weight")
    return Architecture(
        variant=variant.name,
        version=version,
        num_classes=0 if head is None else head.shape[0],
        in_chans=stem.shape[1],
        stem_patch=stem.shape[2] if variant.stem == "patch" else 4,
        layer_scale=any(key.endswith(".gamma") and ".grn." not in key for key in inside),
    )


def _fits(variant: Variant, state: State) -> bool:
    """Whether the names and shapes of stem, norms and head are those of the variant, where the state has them."""
    second, hidden = state.get(OVERLAP_CONV), state.get("pre_logits.fc.weight")
    if second is None:
        stems = ["patch"] if "downsample_layers.0.1.weight" in state else ["isotropic"]
    else:
        stems = ["overlap", "gelu"] if second.shape[0] == second.shape[1] else ["tiered"]
    return (
        variant.stem in stems
        and (variant.norm == "layer") == ("stages.0.0.norm.bias" in state)
        and variant.norm_first == ("norm_pre.weight" in state)
        and variant.head_hidden == (0 if hidden is None else len(hidden))
    )
