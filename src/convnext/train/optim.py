"""AdamW with layer-wise learning rate decay, as the papers fine-tune, and Muon for training from scratch.

Each parameter belongs to a layer, counted from the stem; the learning rate of layer i is multiplied
by `decay ** (last - i)`. The head and the final norm are the last layer, with the full rate.

Muon (Jordan et al. 2024) makes every step of a matrix orthogonal. From random weights and few images it learns in
fewer steps than AdamW does (figures in docs/results.md); the papers' recipes do not use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from convnext.train.muon import Muon

DECAY_RULES = (
    (re.compile(r"(\.|^)bias$"), False),
    (
        re.compile(r"(\.|^)(gamma|beta)$"),
        False,
    ),  # GRN, 4-D in official files, so a rule by dimension misses it; LayerScale
    (re.compile(r"(\.|^)norm\.weight$|downsample_layers\.(0\.1|[123]\.0)\.weight$"), False),  # every LayerNorm
    (re.compile(r"(dwconv|pwconv[12]|head|proj|pred)\.weight$|downsample_layers\.\d\.\d\.weight$"), True),
    (re.compile(r"(\.|^)mask_token$"), True),  # as in the released code
    (re.compile(r"^norms\.\d\.weight$"), False),  # a detector's LayerNorms, one on each map
    (re.compile(r"^(fpn|rpn|box_stages|mask_heads)\..*\.weight$"), True),
    (re.compile(r"^(pooling|lateral|smooth|fuse|auxiliary|classify)\..*weight$"), True),
)
"""Whether weight decay takes a parameter: the first rule that fits its name says so, and one must."""

MATRICES = re.compile(
    r"(pwconv[12]"  # the blocks' linear weights
    r"|^fpn\..*|^rpn\.head\.conv\..*|^(box_stages|mask_heads)\..*\.(linear\.\d|conv))"  # a detector's
    r"\.weight$"
)
"""What Muon may take: matrices between features. Last layers, whose rows are answers, stay AdamW's."""


def head_layer(depths: tuple[int, ...], groups: str) -> int:
    """The last layer: the head's, the final norm's, a decoder's."""
    return {"single": sum(depths) + 1, "group": 4 + -(-depths[2] // 3), "stage": len(depths) + 1}[groups]


def layer_of(name: str, depths: tuple[int, ...], groups: str) -> int:
    """The layer a parameter belongs to, up to `head_layer`.

    "single": every block is a layer, a downsampling belongs to the block after it.
    "group": the third stage's blocks by threes, each other stage (with its downsampling) one layer, which makes twelve
    of 27 blocks and six of nine; the stem is layer 0 (appendix A of both papers, and the released code).
    "stage": a stage is a layer, and all downsampling is layer 0 (the released code for segmentation).
    """
    part = re.match(r"(?:encoder\.|backbone\.)?(downsample_layers|stages)\.(\d)\.(\d+)\.", name)
    if part is None:
        return head_layer(depths, groups)
    kind, stage, block = part[1], int(part[2]), int(part[3])
    if groups == "stage":
        return stage + 1 if kind == "stages" else 0
    if groups == "single":
        return sum(depths[:stage]) + (block if kind == "stages" else 0) + 1
    if stage == 0 and kind == "downsample_layers":
        return 0
    if stage == 2:
        return 3 + (block // 3 if kind == "stages" else 0)
    return (1, 2, 3, head_layer(depths, groups) - 1)[stage]


def takes_decay(name: str) -> bool:
    """Whether weight decay takes the parameter. `ValueError` for a name that no rule covers."""
    for pattern, decayed in DECAY_RULES:
        if pattern.search(name):
            return decayed
    raise ValueError(f"no rule says whether weight decay takes the parameter {name}")


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    depths: tuple[int, ...],
    weight_decay: float,
    layer_decay: float = 1.0,
    layer_groups: str = "single",
) -> list[dict]:
    """Groups for an optimizer, each with `weight_decay` and `lr_scale`, of the parameters that need a gradient."""
    last = head_layer(depths, layer_groups)
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        layer = layer_of(name, depths, layer_groups)
        decayed = takes_decay(name)
        group = groups.setdefault(
            (layer, decayed),
            {
                "params": [],
                "weight_decay": weight_decay if decayed else 0.0,
                "lr_scale": layer_decay ** (last - layer),
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizers(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    muon: float | None = None,
    **groups: Any,
) -> list[torch.optim.Optimizer]:
    """AdamW for all, or with `muon` two: Muon for the inner matrices, at `muon` times the learning rate.

    `groups` are arguments of `parameter_groups`. The rate itself is set before each step by `set_learning_rate`.
    """
    named = list(named)
    matrices = [pair for pair in named if muon is not None and MATRICES.search(pair[0])]
    names = {name for name, _ in matrices}
    rest = parameter_groups([pair for pair in named if pair[0] not in names], **groups)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=0.0, betas=betas, fused=True)]
    taken = parameter_groups(matrices, **groups)
    if muon is not None and taken:
        for group in taken:
            group["lr_scale"] *= muon
        optimizers.append(Muon(taken, lr=0.0))
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give every group its share of `rate`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
