"""Random choices of a detector's training, as functions of an image's key and of the candidate's number.

So they are the same whatever other images are in the batch, in which part or process it is computed, and in what order
the candidates come.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_balanced(labels: Tensor, numbers: Tensor, key: int, *, size: int, positive: float) -> Tensor:
    """Places of some candidates: up to a share of them with labels above 0, the rest with label 0.

    Fewer where there are not so many; those with negative labels are never drawn.

    Args:
        labels: `[n]`.
        numbers: int64 `[n]`, that tell the candidates apart.
        key: of the image.
        size: how many are drawn.
        positive: the share with labels above 0, at most.
    """
    order = mixed(mixed(torch.tensor(key, device=numbers.device)) ^ numbers)
    above, zero = (torch.where(chosen)[0] for chosen in (labels > 0, labels == 0))
    above = _first(above, order, int(size * positive))
    zero = _first(zero, order, size - len(above))
    return torch.cat([above, zero]).sort().values


def _first(places: Tensor, order: Tensor, count: int) -> Tensor:
    return places[order[places].argsort()[:count]] if len(places) > count else places


def mixed(x: Tensor) -> Tensor:
    """A pseudo-random int64 for each: splitmix64 (Steele et al. 2014)."""
    x = x + -0x61C8864680B583EB  # 2^64 by the golden ratio, as a signed number
    x = (x ^ _shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, places: int) -> Tensor:
    """Shift int64 right, filling with zeros."""
    return (x >> places) & ((1 << (64 - places)) - 1)
