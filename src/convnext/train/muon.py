"""Muon (Jordan et al. 2024) in single precision, at fewer operations than torch's, for CPUs.

torch's multiplies in bf16, which most CPUs compute slowly, and the whole matrix in each of its five steps. A step makes
X into p(XXᵀ) X with p(S) = aI + bS + cS², and XXᵀ into p(S) S p(S): so the steps can be taken on the smaller side's
square matrices alone, and their product applied to X once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """`[rows, columns]` with singular values moved to between about 0.7 and 1.2, by `steps` of Newton and Schulz's.

    In bf16 the square matrices would lose too much; in single precision the result is the usual one's to about 1e-5.
    """
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=eps)
    gram, product = x @ x.T, None
    for step in range(steps):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        product = polynomial if product is None else polynomial @ product
        if step + 1 < steps:
            gram = polynomial @ gram @ polynomial
    x = x if product is None else product @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class CPUMuon(torch.optim.Muon):
    """`torch.optim.Muon` at its defaults, with its state, for parameters `[rows, columns]` on a CPU."""

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
                state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
                update = parameter.grad.lerp(state["momentum_buffer"], momentum)  # Nesterov's
                update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rows, columns = parameter.shape
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update, alpha=-rate * max(1.0, rows / columns) ** 0.5)
        return loss
