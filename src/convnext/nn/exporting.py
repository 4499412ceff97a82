"""Whether the network is being exported: then it runs PyTorch's own layers, which exporters know."""

import torch


def is_exporting() -> bool:
    """Whether the network is being traced or exported, by what must see PyTorch's layers instead of our operators.

    `torch.compiler.is_exporting` says yes inside torch.compile too, up to torch 2.11.
    """
    return torch.jit.is_tracing() or (torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling())
