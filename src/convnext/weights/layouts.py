"""Names and shapes of the same parameters in other libraries' files: one table per layout, read in both directions.

The official layout is native. In a pattern, `{i}` `{j}` `{k}` stand for numbers, `{p}` for weight or bias,
and `{model}` for the prefix of a Hugging Face model, which may be absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from convnext.errors import InputError, WeightsError, nearest

State = dict[str, Tensor]

_FIELDS = {
    "i": r"\d+",
    "j": r"\d+",
    "k": r"\d+",
    "p": r"weight|bias",
    "model": r"(?:convnext(?:v2)?\.)?",
}


def _kernel_from_minkowski(kernel: Tensor) -> Tensor:
    """`(s², C)` to `(C, 1, s, s)` and `(s², in, out)` to `(out, in, s, s)`; MinkowskiEngine counts x before y."""
    side = math.isqrt(kernel.shape[0])
    if kernel.ndim == 2:
        kernel = kernel[:, None]
    return kernel.permute(2, 1, 0).unflatten(-1, (side, side)).transpose(-1, -2)


def _kernel_to_minkowski(weight: Tensor, width: int) -> Tensor:
    kernel = weight.transpose(-1, -2).flatten(-2).permute(2, 1, 0)
    return kernel[:, 0] if kernel.shape[1] == 1 else kernel


def _to_conv(weight: Tensor, width: int) -> Tensor:
    # timm's V2 models narrower than Tiny hold their linear layers as 1x1 convolutions.
    return weight[:, :, None, None] if width < 96 else weight


def _to_vector(tensor: Tensor, width: int) -> Tensor:
    return tensor.flatten()


class Rule(NamedTuple):
    """One parameter in two layouts; `read` and `write` change its shape (`write` also gets the stem's width)."""

    official: str
    foreign: str
    read: Callable[[Tensor], Tensor] | None = None
    write: Callable[[Tensor, int], Tensor] | None = None


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
]

_TIMM = [
    Rule("downsample_layers.0.{k}.{p}", "stem.{k}.{p}"),
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
    Rule("head.{p}", "head.fc.{p}"),
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
    Rule("stages.{i}.{j}.grn.gamma", "encoder.stages.{i}.{j}.grn.gamma", write=lambda t, width: t.flatten()[None]),
    Rule("stages.{i}.{j}.grn.beta", "encoder.stages.{i}.{j}.grn.beta", write=lambda t, width: t.flatten()[None]),
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
    "timm": _TIMM,
    "hf": _HF,
    "mmpretrain": _MMPRETRAIN,
    "fcmae": _FCMAE,
    "encoder": [Rule(pattern, f"encoder.{pattern}") for pattern in _OFFICIAL],
}
WRITABLE = ["official", "timm", "hf", "mmpretrain"]


def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    return re.compile("".join(f"(?P<{p}>{_FIELDS[p]})" if n % 2 else re.escape(p) for n, p in enumerate(parts)))


_WRAPPERS = ("module.", "_orig_mod.")  # of whatever network
_STEMS = [rule.foreign.format(i=0, k=0, p="weight", model="") for rule in (t[0] for t in LAYOUTS.values())]
"""The name of the stem's filters in each layout."""
_READERS = {name: [(_regex(rule.foreign), rule) for rule in rules] for name, rules in LAYOUTS.items()}
_WRITERS = {name: [(_regex(rule.official), rule) for rule in rules] for name, rules in LAYOUTS.items()}


def _match(key: str, table: list[tuple[re.Pattern[str], Rule]]) -> tuple[Rule, dict[str, str]] | None:
    for regex, rule in table:
        if found := regex.fullmatch(key):
            return rule, found.groupdict()
    return None


def _official_rank(key: str, tensor: Tensor) -> Tensor:
    """The number of axes official files use: files of every layout differ in axes of length 1."""
    if ".grn." in key:
        return tensor.reshape(1, 1, 1, -1)
    if key.endswith((".bias", ".gamma")):
        return tensor.flatten()
    if ".pwconv" in key and tensor.ndim == 4:
        return tensor.flatten(1)
    return tensor


def detect_layout(state: State) -> str | None:
    """The layout that knows most of the names in `state`; None if no layout knows any."""
    known = {name: sum(_match(key, table) is not None for key in state) for name, table in _READERS.items()}
    best = max(known, key=known.__getitem__)
    return best if known[best] else None


def strip_prefix(state: State) -> tuple[State, list[str]]:
    """Strip the prefix that stands before a known layout's names; returns the state, and the names outside the prefix.

    Data parallel and compiled networks, Lightning's modules, detectors and segmenters put one there, or several:
    `module.`, `_orig_mod.`, `model.`, `net.backbone.`.
    """
    while state and (wrapper := next((w for w in _WRAPPERS if all(key.startswith(w) for key in state)), None)):
        state = {key.removeprefix(wrapper): tensor for key, tensor in state.items()}
    prefixes = {key.removesuffix(stem) for key in state for stem in _STEMS if key.endswith(stem)} | {""}

    def known(prefix: str) -> int:
        inside = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        return max(sum(_match(key, table) is not None for key in inside) for table in _READERS.values())

    best = max(sorted(prefixes, key=len), key=known)
    inside = {key.removeprefix(best): tensor for key, tensor in state.items() if key.startswith(best)}
    return inside, [key for key in state if not key.startswith(best)]


def to_official(state: State, layout: str | None = None) -> State:
    """`state` with official names and shapes; names its layout does not know stay as they are.

    Args:
        state: tensors by name.
        layout: one of `LAYOUTS`; recognised from the names if None.

    Raises:
        WeightsError: a convolution in a shape its layout cannot have.
    """
    layout = layout or detect_layout(state)
    if layout is None:
        return state
    official = {}
    for key, tensor in state.items():
        if found := _match(key, _READERS[layout]):
            rule, fields = found
            key = rule.official.format(**fields)
            try:
                tensor = _official_rank(key, rule.read(tensor) if rule.read else tensor)
            except RuntimeError:
                raise WeightsError(f"'{key}' has the shape {list(tensor.shape)}, which is no ConvNeXt's") from None
        official[key] = tensor
    return official


def from_official(state: State, layout: str) -> State:
    """An official-layout `state` in the names and shapes of `layout`.

    Raises:
        InputError: unknown layout, or a parameter the layout has no name for.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout '{layout}'; {nearest(layout, WRITABLE)}")
    if layout == "official":
        return dict(state)
    width = state["downsample_layers.0.0.weight"].shape[0]
    model = "convnextv2." if any(".grn." in key for key in state) else "convnext."
    foreign = {}
    for key, tensor in state.items():
        found = _match(key, _WRITERS[layout])
        if found is None:
            raise InputError(f"the {layout} layout has no name for '{key}'; only classifiers can be written in it")
        rule, fields = found
        foreign[rule.foreign.format(model=model, **fields)] = rule.write(tensor, width) if rule.write else tensor
    return foreign
