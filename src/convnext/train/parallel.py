"""One network over several processes: DDP copies it to each, FSDP2 splits its parameters among them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.parallel import DistributedDataParallel

from convnext.errors import InputError
from convnext.nn.block import Block
from convnext.runtime import distributed
from convnext.runtime.device import device_ids

SHARDED_FROM = 150_000_000
"""Parameters from which "auto" takes FSDP2: large, huge and xlarge."""


def is_fsdp(model: nn.Module, parallel: str) -> bool:
    """Whether a model's parameters are to be split among the processes."""
    if distributed.count() == 1 or parallel == "ddp":
        return False
    return parallel == "fsdp" or sum(p.numel() for p in model.parameters()) >= SHARDED_FROM


def refuse_what_cannot_be_sharded(model: nn.Module, *, muon_lr_scale: float | None, precision: str) -> None:
    """`InputError` for what cannot be done with split parameters."""
    if muon_lr_scale is not None:
        raise InputError("muon needs whole matrices: --parallel ddp, or --muon-lr-scale none")
    if precision == "fp16":
        raise InputError("fp16 needs whole gradients: --parallel ddp, or --precision bf16")
    if getattr(model, "masked_dense", False):  # it reads the blocks' weights without calling them
        raise InputError("the dense encoder needs whole weights: --parallel ddp, or --encoder visible")


def shard(model: nn.Module, device: torch.device) -> None:
    """Split a model's parameters, a block at a time, in place."""
    mesh = init_device_mesh(device.type, (distributed.count(),))
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def replicate(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as DDP calls it, or itself where there is one process or its parameters are split."""
    if distributed.count() == 1 or isinstance(model, FSDPModule):
        return model
    return DistributedDataParallel(model, device_ids=device_ids(device))


@contextmanager
def no_grad_sync(network: nn.Module, kept: bool) -> Iterator[None]:
    """Inside, if `kept`, gradients are not yet exchanged: another part of the batch follows."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(not kept)
    with network.no_sync() if kept and isinstance(network, DistributedDataParallel) else nullcontext():
        yield


def gather_full(tensor: Tensor) -> Tensor:
    """A tensor that may be split among the processes, as one; all of them must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor that all processes have, split among them as `other` is, if that is."""
    if not isinstance(other, DTensor):
        return tensor
    everywhere = [Replicate()] * other.device_mesh.ndim
    return DTensor.from_local(tensor, other.device_mesh, everywhere, run_check=False).redistribute(
        placements=other.placements
    )


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state without splits."""
    return {name: gather_full(tensor) for name, tensor in model.state_dict().items()}


class WholeModel:
    """A model that can be called by one process alone: itself, or where it is split, a copy that takes its weights."""

    def __init__(self, model: nn.Module, sharded: bool) -> None:
        self.copy = copy.deepcopy(model).eval().requires_grad_(False) if sharded else None

    def of(self, model: nn.Module) -> nn.Module:
        """`model`, in evaluation mode."""
        if self.copy is None:
            return model.eval()
        self.copy.load_state_dict(whole_state(model))
        return self.copy


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients, over all processes."""
    norm: Any = torch.nn.utils.get_total_norm(gradients)
    return gather_full(norm)
