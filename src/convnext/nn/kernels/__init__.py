"""Kernels of the depthwise convolution and of the block's pointwise half, for CPUs and GPUs."""

import torch


def looked_into() -> bool:
    """Whether somebody traces or exports the network, and is to see PyTorch's layers, not our operators.

    `torch.compiler.is_exporting` says yes inside torch.compile too, up to torch 2.11.
    """
    return torch.jit.is_tracing() or (torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling())
