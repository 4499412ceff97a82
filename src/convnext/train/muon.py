"""Muon (Jordan et al. 2024) for linear weights and convolutions, at fewer operations on CPUs.

torch's takes linear weights alone, and multiplies whole matrices in each of its five steps, in bf16, which most CPUs
compute slowly. A step makes X into p(XXᵀ) X with p(S) = aI + bS + cS², and XXᵀ into p(S) S p(S): so on a CPU the steps
are taken on the smaller side's square matrices, in single precision, and their product is applied to X once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from convnext.train.parallel import gather_full, shard_like

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # a, b, c
STEPS = 5
EPS = 1e-7


def orthogonal(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """`[rows, columns]` with singular values moved to between about 0.7 and 1.2, by Newton and Schulz's iteration."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=EPS)
    x = of_squares(x, steps) if x.device.type == "cpu" else in_bf16(x, steps)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def in_bf16(x: Tensor, steps: int) -> Tensor:
    """The iteration as published, to 1 or 2 %."""
    a, b, c = COEFFICIENTS
    y = x.bfloat16()
    for _ in range(steps):
        gram = y @ y.T
        y = torch.addmm(y, torch.addmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.to(x.dtype)


def of_squares(x: Tensor, steps: int) -> Tensor:
    """The iteration on the square matrices, to about 1e-5: in bf16 they would lose too much."""
    a, b, c = COEFFICIENTS
    gram, product = x @ x.T, None
    for step in range(steps):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        product = polynomial if product is None else polynomial @ product
        if step + 1 < steps:
            gram = polynomial @ gram @ polynomial
    return x if product is None else product @ x


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov's momentum, whose steps are made orthogonal; `torch.optim.Muon` at its defaults.

    Args:
        params: weights `[rows, ...]`, the rest taken as columns, so that a convolution is a matrix of its outputs; or
            groups of such.
        lr: of a matrix no taller than wide; others' is larger by the root of rows / columns.
        weight_decay: the part of a weight that is taken off, times `lr`.
        momentum: what a step keeps of those before it.
    """

    found_inf: Tensor | None = None
    """Scalar tensor on the parameters' device: 1 where a gradient is not finite, so that a step changes nothing.
    The fused optimizers of PyTorch read an attribute of this name too. None: every step is taken."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.1, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; `closure` computes the loss again, and its value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                grad = parameter.grad
                if self.found_inf is not None:
                    grad = torch.where(self.found_inf > 0, state["momentum_buffer"], grad)  # which does not change it
                state["momentum_buffer"].lerp_(grad, 1 - momentum)
                # Nesterov's; whole, as the parts of a matrix made orthogonal are not those of the whole made so.
                update = gather_full(grad.lerp(state["momentum_buffer"], momentum))
                matrix = orthogonal(update.flatten(1))
                factor = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                before = parameter.clone() if self.found_inf is not None else parameter
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(shard_like(matrix.view_as(update), parameter), alpha=-rate * factor)
                if self.found_inf is not None:
                    parameter.copy_(torch.where(self.found_inf > 0, before, parameter))
        return loss
