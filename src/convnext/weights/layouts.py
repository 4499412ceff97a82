"""State dicts from one layout to another: which layout a file has, to the official one, and from it.

The names are in `key_tables`; the official layout is native.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from convnext.errors import InputError, WeightsError, nearest
from convnext.variants import Variant, find_variant
from convnext.weights.architecture import describe
from convnext.weights.key_tables import LAYOUTS, OVERLAP_CONV, WRITABLE, Rule, State

DECODER = ("decoder.", "proj.", "pred.", "mask_token")
"""Prefixes of the parameter names of FCMAE's decoder."""

_FIELDS = {
    "i": r"\d+",
    "j": r"\d+",
    "k": r"\d+",
    "p": r"weight|bias",
    "model": r"(?:convnext(?:v2)?\.)?",
    "wrapped": r"(?:model\.)?",
}


def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    return re.compile("".join(f"(?P<{p}>{_FIELDS[p]})" if n % 2 else re.escape(p) for n, p in enumerate(parts)))


_WRAPPERS = ("module.", "_orig_mod.")  # of whatever network
_STEMS = [t[0].foreign.format(i=0, k=0, p="weight", model="", wrapped="") for t in LAYOUTS.values()]
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
    """The layout, or form of one, that knows most of the names in `state`; None if none knows any."""
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


def is_clip_tower(names: Iterable[str]) -> bool:
    """Whether a file holds an image tower of OpenCLIP's, whose answer is a projection."""
    return any(name.endswith("visual.trunk.stem.0.weight") for name in names)


def leave_out_extras(state: State, layout: str | None) -> tuple[State, list[str]]:
    """Leave out what a file of that layout holds beside the network; returns the state, and the names left out.

    A CLIP model has a text tower, EUPE's files have projectors and norms of the first stages. DINOv3's files hold the
    last norm a second time, as `norms.3`.

    Raises:
        WeightsError: a second copy that is not equal to the first.
    """
    extra: list[str] = []
    if layout is not None and layout.startswith("open_clip"):
        extra = [key for key in state if not key.startswith("visual.")]
    if layout == "official":
        for key in (key for key in state if key.startswith("norms.3.")):
            original = key.replace("norms.3.", "norm.")
            if original not in state or not torch.equal(state[key], state[original]):
                raise WeightsError(f"'{key}' should be the same as '{original}', and is not; this is another network")
        extra = [key for key in state if key.startswith(("norms.", "projectors."))]
    return {key: tensor for key, tensor in state.items() if key not in extra}, extra


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
    if layout.startswith("open_clip") and "head.weight" in official:
        official["head.bias"] = official["head.weight"].new_zeros(len(official["head.weight"]))
    return official


def from_official(state: State, layout: str) -> State:
    """An official-layout `state` in the names and shapes of `layout`.

    Raises:
        InputError: unknown layout, or one that cannot hold this network; the reason is given.
    """
    if layout not in WRITABLE:
        raise InputError(f"unknown layout '{layout}'; {nearest(layout, WRITABLE)}")
    if layout == "official":
        return dict(state)
    variant = find_variant(describe(state).variant)
    _check_form(variant, layout)
    form = layout + _form(state, variant, layout)
    if layout == "open_clip" and (bias := state.get("head.bias")) is not None:
        if bias.any():
            raise InputError("the open_clip layout ends in a projection without a bias, and this head has one")
        state = {key: tensor for key, tensor in state.items() if key != "head.bias"}
    model = "convnextv2." if variant.version == 2 else "convnext."
    foreign = {}
    for key, tensor in state.items():
        if layout == "fcmae" and key.startswith(DECODER):
            foreign[key] = tensor
            continue
        found = _match(key, _WRITERS[form])
        if found is None:
            raise InputError(f"the {layout} layout has no name for '{key}' of {variant.name}")
        rule, fields = found
        name = rule.foreign.format(model=model, wrapped="model.", **fields)
        foreign[name] = rule.write(tensor, state) if rule.write else tensor
    return foreign


def _form(state: State, variant: Variant, layout: str) -> str:
    """Suffix of the table in `LAYOUTS` that a layout uses for this network, such as "/overlap"."""
    if layout == "timm" and OVERLAP_CONV in state:
        return "/gelu" if variant.stem == "gelu" else "/overlap"
    if layout == "open_clip" and "pre_logits.fc.weight" in state:
        return "/mlp"
    return ""


def _check_form(variant: Variant, layout: str) -> None:
    """`InputError` where the other library builds another network under the same names."""
    reason = ""
    if variant.is_hierarchical == (layout == "isotropic"):
        reason = "is isotropic" if layout != "isotropic" else "is not isotropic"
    elif layout not in ("timm", "open_clip") and variant.norm != "layer":
        reason = "has another norm than LayerNorm"
    elif layout not in ("timm", "open_clip") and variant.eps != 1e-6:
        reason = f"has norms with an eps of {variant.eps:g}, and 1e-06 is fixed there"
    if reason:
        raise InputError(f"the {layout} layout cannot hold {variant.name}, which {reason}")
