"""The names and shapes of the same parameters in other libraries' files: one table a layout, read in both directions.

The official layout is native. In a pattern, `{i}` `{j}` `{k}` stand for numbers, `{p}` for weight or bias, and
`{model}` and `{wrapped}` for prefixes of transformers' models, which may be absent. A layout whose names differ with
the network has a table for each form: "timm/overlap" is timm's for networks with overlapping stems.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

State = dict[str, Tensor]

STEM = "downsample_layers.0.0.weight"
OVERLAP = "downsample_layers.0.overlap.weight"
CONVOLUTIONAL = 96
"""Width of the first stage from which timm's networks hold linear layers as such; narrower, as 1×1 convolutions."""


def _kernel_from_minkowski(kernel: Tensor) -> Tensor:
    """`(s², C)` to `(C, 1, s, s)` and `(s², in, out)` to `(out, in, s, s)`; MinkowskiEngine counts x before y."""
    side = math.isqrt(kernel.shape[0])
    if kernel.ndim == 2:
        kernel = kernel[:, None]
    return kernel.permute(2, 1, 0).unflatten(-1, (side, side)).transpose(-1, -2)


def _kernel_to_minkowski(weight: Tensor, state: State) -> Tensor:
    kernel = weight.transpose(-1, -2).flatten(-2).permute(2, 1, 0)
    return kernel[:, 0] if kernel.shape[1] == 1 else kernel


def _to_conv(weight: Tensor, state: State) -> Tensor:
    # timm's small models and its tiny_hnf hold their linear layers as 1x1 convolutions.
    convolutional = len(state["stages.0.0.norm.weight"]) < CONVOLUTIONAL or "norm_pre.weight" in state
    return weight[:, :, None, None] if convolutional else weight


def _to_vector(tensor: Tensor, state: State) -> Tensor:
    return tensor.flatten()


def _to_row(tensor: Tensor, state: State) -> Tensor:
    return tensor.flatten()[None]


def _to_map(tensor: Tensor, state: State) -> Tensor:
    return tensor[:, None, None]


class Rule(NamedTuple):
    """One parameter in two layouts; `read` and `write` change its shape (`write` also gets the official state)."""

    official: str
    foreign: str
    read: Callable[[Tensor], Tensor] | None = None
    write: Callable[[Tensor, State], Tensor] | None = None


_OFFICIAL = [
    "downsample_layers.{i}.{k}.{p}",
    "stages.{i}.{j}.dwconv.{p}",
    "stages.{i}.{j}.norm.{p}",
    "stages.{i}.{j}.pwconv1.{p}",
    "stages.{i}.{j}.pwconv2.{p}",
    "stages.{i}.{j}.grn.gamma",
    "stages.{i}.{j}.grn.beta",
    "stages.{i}.{j}.gamma",
    "norm.{p}",
    "head.{p}",
    # of the members that the official repositories do not have
    "downsample_layers.0.overlap.{p}",
    "norm_pre.{p}",
    "pre_logits.fc.{p}",
]


def _timm(stem: list[Rule], head: list[Rule], prefix: str = "") -> list[Rule]:
    """timm's names of a network with such a stem and head, behind a prefix."""
    rules = [
        *stem,
        Rule("downsample_layers.{i}.{k}.{p}", "stages.{i}.downsample.{k}.{p}"),
        Rule("stages.{i}.{j}.dwconv.{p}", "stages.{i}.blocks.{j}.conv_dw.{p}"),
        Rule("stages.{i}.{j}.norm.{p}", "stages.{i}.blocks.{j}.norm.{p}"),
        Rule("stages.{i}.{j}.pwconv1.weight", "stages.{i}.blocks.{j}.mlp.fc1.weight", write=_to_conv),
        Rule("stages.{i}.{j}.pwconv1.bias", "stages.{i}.blocks.{j}.mlp.fc1.bias"),
        Rule("stages.{i}.{j}.pwconv2.weight", "stages.{i}.blocks.{j}.mlp.fc2.weight", write=_to_conv),
        Rule("stages.{i}.{j}.pwconv2.bias", "stages.{i}.blocks.{j}.mlp.fc2.bias"),
        Rule("stages.{i}.{j}.grn.gamma", "stages.{i}.blocks.{j}.mlp.grn.weight", write=_to_vector),
        Rule("stages.{i}.{j}.grn.beta", "stages.{i}.blocks.{j}.mlp.grn.bias", write=_to_vector),
        Rule("stages.{i}.{j}.gamma", "stages.{i}.blocks.{j}.gamma"),
        Rule("norm.{p}", "head.norm.{p}"),
        Rule("norm_pre.{p}", "norm_pre.{p}"),
    ]
    return [*(rule._replace(foreign=prefix + rule.foreign) for rule in rules), *head]


_PATCHES = [
    Rule("downsample_layers.0.0.{p}", "stem.0.{p}"),
    Rule("downsample_layers.0.1.{p}", "stem.1.{p}"),
]
_OVERLAP = [
    Rule("downsample_layers.0.0.{p}", "stem.0.{p}"),
    Rule("downsample_layers.0.overlap.{p}", "stem.1.{p}"),
    Rule("downsample_layers.0.1.{p}", "stem.2.{p}"),
]
_GELU = [
    Rule("downsample_layers.0.0.{p}", "stem.0.{p}"),
    Rule("downsample_layers.0.overlap.{p}", "stem.2.{p}"),
    Rule("downsample_layers.0.1.{p}", "stem.3.{p}"),
]
_HEAD = [Rule("pre_logits.fc.{p}", "head.pre_logits.fc.{p}"), Rule("head.{p}", "head.fc.{p}")]
_LINEAR = [Rule("head.weight", "visual.head.proj.weight")]
_MLP = [
    Rule("pre_logits.fc.{p}", "visual.head.mlp.fc1.{p}"),
    Rule("head.weight", "visual.head.mlp.fc2.weight"),
]

_HF = [
    Rule("downsample_layers.0.0.{p}", "{model}embeddings.patch_embeddings.{p}"),
    Rule("downsample_layers.0.1.{p}", "{model}embeddings.layernorm.{p}"),
    Rule("downsample_layers.{i}.{k}.{p}", "{model}encoder.stages.{i}.downsampling_layer.{k}.{p}"),
    Rule("stages.{i}.{j}.dwconv.{p}", "{model}encoder.stages.{i}.layers.{j}.dwconv.{p}"),
    Rule("stages.{i}.{j}.norm.{p}", "{model}encoder.stages.{i}.layers.{j}.layernorm.{p}"),
    Rule("stages.{i}.{j}.pwconv1.{p}", "{model}encoder.stages.{i}.layers.{j}.pwconv1.{p}"),
    Rule("stages.{i}.{j}.pwconv2.{p}", "{model}encoder.stages.{i}.layers.{j}.pwconv2.{p}"),
    Rule("stages.{i}.{j}.grn.gamma", "{model}encoder.stages.{i}.layers.{j}.grn.weight"),
    Rule("stages.{i}.{j}.grn.beta", "{model}encoder.stages.{i}.layers.{j}.grn.bias"),
    Rule("stages.{i}.{j}.gamma", "{model}encoder.stages.{i}.layers.{j}.layer_scale_parameter"),
    Rule("norm.{p}", "{model}layernorm.{p}"),
    Rule("head.{p}", "classifier.{p}"),
]

# transformers' DINOv3ConvNextModel; a last norm, no head.
_DINOV3 = [
    Rule("downsample_layers.{i}.{k}.{p}", "{wrapped}stages.{i}.downsample_layers.{k}.{p}"),
    Rule("stages.{i}.{j}.dwconv.{p}", "{wrapped}stages.{i}.layers.{j}.depthwise_conv.{p}"),
    Rule("stages.{i}.{j}.norm.{p}", "{wrapped}stages.{i}.layers.{j}.layer_norm.{p}"),
    Rule("stages.{i}.{j}.pwconv1.{p}", "{wrapped}stages.{i}.layers.{j}.pointwise_conv1.{p}"),
    Rule("stages.{i}.{j}.pwconv2.{p}", "{wrapped}stages.{i}.layers.{j}.pointwise_conv2.{p}"),
    Rule("stages.{i}.{j}.gamma", "{wrapped}stages.{i}.layers.{j}.gamma"),
    Rule("norm.{p}", "layer_norm.{p}"),
    Rule("norm.{p}", "model.layer_norm.{p}"),
]


def _torchvision() -> list[Rule]:
    """torchvision's names: stages and the layers before them are numbered in turn."""
    rules = [Rule("downsample_layers.0.{k}.{p}", "features.0.{k}.{p}")]
    for i in range(4):
        ours, theirs = f"stages.{i}.{{j}}", f"features.{2 * i + 1}.{{j}}"
        for name, place in (("dwconv", 0), ("norm", 2), ("pwconv1", 3), ("pwconv2", 5)):
            rules.append(Rule(f"{ours}.{name}.{{p}}", f"{theirs}.block.{place}.{{p}}"))
        rules.append(Rule(f"{ours}.gamma", f"{theirs}.layer_scale", write=_to_map))
        if i:
            rules.append(Rule(f"downsample_layers.{i}.{{k}}.{{p}}", f"features.{2 * i}.{{k}}.{{p}}"))
    return [*rules, Rule("norm.{p}", "classifier.0.{p}"), Rule("head.{p}", "classifier.2.{p}")]


# The official repository's networks of one stage.
_ISOTROPIC = [
    Rule("downsample_layers.0.0.{p}", "stem.{p}"),
    Rule("stages.0.{j}.dwconv.{p}", "blocks.{j}.dwconv.{p}"),
    Rule("stages.0.{j}.norm.{p}", "blocks.{j}.norm.{p}"),
    Rule("stages.0.{j}.pwconv1.{p}", "blocks.{j}.pwconv1.{p}"),
    Rule("stages.0.{j}.pwconv2.{p}", "blocks.{j}.pwconv2.{p}"),
    Rule("stages.0.{j}.gamma", "blocks.{j}.gamma"),
    Rule("norm.{p}", "norm.{p}"),
    Rule("head.{p}", "head.{p}"),
]

# FCMAE's encoder, written by the official code on MinkowskiEngine: convolutions are `kernel`, norms and
# linear layers sit one level deeper; the stem is dense.
_FCMAE = [
    Rule("downsample_layers.0.{k}.{p}", "encoder.downsample_layers.0.{k}.{p}"),
    Rule("downsample_layers.{i}.0.{p}", "encoder.downsample_layers.{i}.0.ln.{p}"),
    Rule(
        "downsample_layers.{i}.1.weight",
        "encoder.downsample_layers.{i}.1.kernel",
        _kernel_from_minkowski,
        _kernel_to_minkowski,
    ),
    Rule("downsample_layers.{i}.1.bias", "encoder.downsample_layers.{i}.1.bias"),
    Rule(
        "stages.{i}.{j}.dwconv.weight",
        "encoder.stages.{i}.{j}.dwconv.kernel",
        _kernel_from_minkowski,
        _kernel_to_minkowski,
    ),
    Rule("stages.{i}.{j}.dwconv.bias", "encoder.stages.{i}.{j}.dwconv.bias"),
    Rule("stages.{i}.{j}.norm.{p}", "encoder.stages.{i}.{j}.norm.ln.{p}"),
    Rule("stages.{i}.{j}.pwconv1.{p}", "encoder.stages.{i}.{j}.pwconv1.linear.{p}"),
    Rule("stages.{i}.{j}.pwconv2.{p}", "encoder.stages.{i}.{j}.pwconv2.linear.{p}"),
    Rule("stages.{i}.{j}.grn.gamma", "encoder.stages.{i}.{j}.grn.gamma", write=_to_row),
    Rule("stages.{i}.{j}.grn.beta", "encoder.stages.{i}.{j}.grn.beta", write=_to_row),
]

_MMPRETRAIN = [
    Rule("downsample_layers.{i}.{k}.{p}", "backbone.downsample_layers.{i}.{k}.{p}"),
    Rule("stages.{i}.{j}.dwconv.{p}", "backbone.stages.{i}.{j}.depthwise_conv.{p}"),
    Rule("stages.{i}.{j}.norm.{p}", "backbone.stages.{i}.{j}.norm.{p}"),
    Rule("stages.{i}.{j}.pwconv1.{p}", "backbone.stages.{i}.{j}.pointwise_conv1.{p}"),
    Rule("stages.{i}.{j}.pwconv2.{p}", "backbone.stages.{i}.{j}.pointwise_conv2.{p}"),
    Rule("stages.{i}.{j}.grn.gamma", "backbone.stages.{i}.{j}.grn.gamma", write=_to_vector),
    Rule("stages.{i}.{j}.grn.beta", "backbone.stages.{i}.{j}.grn.beta", write=_to_vector),
    Rule("stages.{i}.{j}.gamma", "backbone.stages.{i}.{j}.gamma"),
    Rule("norm.{p}", "backbone.norm3.{p}"),
    Rule("head.{p}", "head.fc.{p}"),
]

LAYOUTS: dict[str, list[Rule]] = {
    "official": [Rule(pattern, pattern) for pattern in _OFFICIAL],
    "timm": _timm(_PATCHES, _HEAD),
    "timm/overlap": _timm(_OVERLAP, _HEAD),
    "timm/gelu": _timm(_GELU, _HEAD),
    "hf": _HF,
    "dinov3": _DINOV3,
    "torchvision": _torchvision(),
    "open_clip": _timm(_PATCHES, [], "visual.trunk.") + _LINEAR,
    "open_clip/mlp": _timm(_PATCHES, [], "visual.trunk.") + _MLP,
    "mmpretrain": _MMPRETRAIN,
    "isotropic": _ISOTROPIC,
    "fcmae": _FCMAE,
    "encoder": [Rule(pattern, f"encoder.{pattern}") for pattern in _OFFICIAL],
}
WRITABLE = ["official", "timm", "hf", "dinov3", "torchvision", "open_clip", "mmpretrain", "isotropic", "fcmae"]
