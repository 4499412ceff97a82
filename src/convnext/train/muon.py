"""Muon (Jordan et al. 2024) for linear weights and convolutions, at fewer operations on CPUs.

A step is the orthogonal matrix nearest to the momentum X, (XXᵀ)^(-1/2) X, roughly. On a GPU it is approached by five
products of polynomials in bf16, as published. Most CPUs compute bf16 slowly, and those polynomials take some twenty
products of square matrices in single precision; a rational function of XXᵀ takes two inverses and is closer to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from convnext.train.parallel import gather_full, shard_like

COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""a, b and c of Newton and Schulz's iteration, X to (aI + bS + cS²) X with S = XXᵀ, as Muon has them."""
STEPS = 5
UNSHIFTED = 0.885
POLES = ((0.0084813, 1.8960818e-5), (0.1704553, 9.1860596e-3))
"""Weights w and shifts s of 0.885 I + Σ w (S + sI)⁻¹, Zolotarev's best approximation of S^(-1/2) by two inverses where
singular values of X are 0.002 to 1 (Nakatsukasa and Freund 2016, section 3), times 0.92: what the iteration above makes
of such values in the mean, so that a learning rate means the same on a GPU."""
LEAST_NORM = 1e-7
TOGETHER = 2**25  # numbers in the matrices that are computed together: memory for larger ones is not worth it


def orthogonal(matrices: Tensor) -> Tensor:
    """`[..., rows, columns]` with singular values of at least 0.002 of its norm moved to between about 0.7 and 1.2.

    On a CPU a single matrix, and to between 0.77 and 1.07.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=LEAST_NORM)
    x = by_inverses(x) if x.device.type == "cpu" else by_products(x)
    return x.mT if tall else x


def by_products(x: Tensor) -> Tensor:
    """Newton and Schulz's iteration as published, in bf16, so to 1 or 2 %, of `[..., rows, columns]`."""
    a, b, c = COEFFICIENTS
    shape, y = x.shape, x.bfloat16().view(-1, *x.shape[-2:])
    for _ in range(STEPS):
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.to(x.dtype).view(shape)


def by_inverses(x: Tensor) -> Tensor:
    """Zolotarev's function of `[rows, columns]`, in its own precision."""
    gram = x @ x.T
    identity = torch.eye(len(gram), dtype=gram.dtype)
    found = UNSHIFTED * identity
    for weight, shift in POLES:
        # What is not finite has no factor, and is to come out as such: an error would end the training.
        factor, _ = torch.linalg.cholesky_ex(gram + shift * identity)
        found.add_(torch.cholesky_inverse(factor), alpha=weight)
    return found @ x


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov's momentum, whose steps are made orthogonal; on a GPU `torch.optim.Muon` at its defaults.

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
            for alike in batches([p for p in group["params"] if p.grad is not None]):
                self.move(alike, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def move(self, parameters: list[Tensor], rate: float, momentum: float, weight_decay: float) -> None:
        """One step of matrices of one shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        decay: float | Tensor = 1 - rate * weight_decay
        if (left_out := self.found_inf) is not None:
            gradients = [torch.where(left_out > 0, *pair) for pair in zip(buffers, gradients, strict=True)]
            decay = torch.where(left_out > 0, 1.0, decay)
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        # Nesterov's; whole, as the parts of a matrix made orthogonal are not those of the whole made so. One by one:
        # PyTorch 2.11 has no `_foreach_lerp` of split matrices.
        pairs = zip(gradients, buffers, strict=True)
        updates = [gather_full(gradient.lerp(buffer, momentum)) for gradient, buffer in pairs]
        flat = [update.flatten(1) for update in updates]
        matrices = orthogonal(torch.stack(flat)) if len(flat) > 1 else orthogonal(flat[0])[None]
        if left_out is not None:
            matrices = torch.where(left_out > 0, 0.0, matrices)
        factor = max(1.0, matrices.shape[-2] / matrices.shape[-1]) ** 0.5
        torch._foreach_mul_(parameters, decay)
        moves = [m.view_as(u) for m, u in zip(matrices, updates, strict=True)]
        moves = [shard_like(*pair) for pair in zip(moves, parameters, strict=True)]
        torch._foreach_add_(parameters, moves, alpha=-rate * factor)


def batches(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Lists of parameters whose matrices are computed together: on a GPU those of one shape, on a CPU one by one.

    A GPU would take longer to launch the kernels of one small matrix than to compute them.
    """
    found: list[list[Tensor]] = []
    last: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        alike = last.get(parameter.shape)
        if alike is None or parameter.device.type == "cpu" or parameter.numel() * len(alike) >= TOGETHER:
            alike = last[parameter.shape] = []
            found.append(alike)
        alike.append(parameter)
    return found
