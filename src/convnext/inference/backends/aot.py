"""Packages that PyTorch's AOTInductor compiled. They hold machine code: load only those that you trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from convnext.errors import WeightsError
from convnext.storage.exports import damaged

_CAPABILITIES = ["DEFAULT", "AVX2", "AVX512"]
"""Instruction sets of x86 processors, as PyTorch names them; each includes those before it."""


class PackageEngine:
    """A loaded package.

    Args:
        path: the `.pt2` file.
        cpu: the kind of processor that it was compiled for, as `torch.backends.cpu.get_cpu_capability` says it.
        detects: it is a detector, whose NMS and RoIAlign are torchvision's.

    Raises:
        WeightsError: a damaged file, or one for another kind of processor.
    """

    def __init__(self, path: Path, cpu: str, *, detects: bool) -> None:
        here = torch.backends.cpu.get_cpu_capability()
        known = here in _CAPABILITIES and cpu in _CAPABILITIES
        if here != cpu and not (known and _CAPABILITIES.index(here) > _CAPABILITIES.index(cpu)):
            raise WeightsError(f"{path} was compiled for {cpu} processors, and this one is {here}: export it here")
        if detects:
            import torchvision  # noqa: F401 # registers NMS and RoIAlign
        try:
            # What torch._inductor.aoti_load_package wraps, without importing the compiler.
            # Threads as set, one copy of the network, no device named: PyTorch 2.11 has no defaults for them.
            self.loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
        except RuntimeError as error:
            raise damaged(path, error) from None
        self.name = f"torch {torch.__version__.split('+')[0]}, compiled"

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [each.numpy() for each in self.loader.run([torch.from_numpy(images)])]
