"""Scratch memory of the CPU operators."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class Workspace(threading.local):
    """Scratch memory that lives on between calls, as fresh pages cost as much as the arithmetic done in them."""

    def __init__(self) -> None:
        self.blocks: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor of any content; the last one taken under the same name is overwritten."""
        size = math.prod(shape) * dtype.itemsize
        block = self.blocks.get(name)
        if block is None or block.numel() < size:
            with torch.inference_mode(False):  # or training could not use it after an inference
                block = self.blocks[name] = torch.empty(size, dtype=torch.uint8)
        return block[:size].view(dtype).view(shape)


workspace = Workspace()
