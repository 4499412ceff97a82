"""AdamW with layer-wise learning rate decay, as the papers fine-tune, and Muon for training from scratch.

Each parameter belongs to a layer, counted from the stem; the learning rate of layer i is multiplied
by `decay ** (last - i)`. The head and the final norm are the last layer, with the full rate.

Muon (Jordan et al. 2024) makes every step of a matrix orthogonal. From random weights and few images it learns in
fewer steps than AdamW does (figures in docs/results.md); the papers' recipes do not use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from convnext.nn.parameters import ParameterRules, head_layer, layer_of
from convnext.train.muon import Muon


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    rules: ParameterRules,
    depths: tuple[int, ...],
    weight_decay: float,
    layer_decay: float = 1.0,
    layer_groups: str = "single",
) -> list[dict]:
    """Groups for an optimizer, each with `weight_decay` and `lr_scale`, of the parameters that need a gradient."""
    last = head_layer(depths, layer_groups)
    groups: dict[tuple[float, bool], dict] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        scale = layer_decay ** (last - layer_of(name, depths, layer_groups))
        decayed = rules.takes_decay(name)
        group = groups.setdefault(
            (scale, decayed),
            {"params": [], "weight_decay": weight_decay if decayed else 0.0, "lr_scale": scale},
        )
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizers(
    model: Any,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    muon_lr_scale: float | None = None,
    **groups: Any,
) -> list[torch.optim.Optimizer]:
    """AdamW for all, or with `muon_lr_scale` two: Muon for the inner matrices, at so many times the learning rate.

    The model says which parameters take weight decay and Muon (`parameter_rules`), and how deep its encoder is
    (`depths`). `groups` are arguments of `parameter_groups`. The rate itself is set before each step by
    `set_learning_rate`.
    """
    rules: ParameterRules = model.parameter_rules
    groups |= {"rules": rules, "depths": model.depths}
    named = list(model.named_parameters())
    matrices = [pair for pair in named if muon_lr_scale is not None and rules.takes_muon(pair[0])]
    names = {name for name, _ in matrices}
    rest = parameter_groups([pair for pair in named if pair[0] not in names], **groups)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=0.0, betas=betas, fused=True)]
    taken = parameter_groups(matrices, **groups)
    if muon_lr_scale is not None and taken:
        for group in taken:
            group["lr_scale"] *= muon_lr_scale
        optimizers.append(Muon(taken, lr=0.0))
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Give every group its share of `rate`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
