"""What the tests of the Triton kernels share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def triton_kernels() -> Callable[[str], ModuleType]:
    """A module of kernels by name: compiled where a GPU is, else a copy of it in Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")

    def load(name: str) -> ModuleType:
        if DEVICE == "cuda":
            return importlib.import_module(name)
        if [int(part) for part in version("triton").split(".")[:2]] < [3, 9]:
            pytest.skip("the interpreter of Triton 3.6 fails with NumPy 2.4")
        # Triton looks at the variable where a kernel is defined. A second copy of the module has interpreted kernels;
        # Triton itself, imported above, and the module that others may import have not.
        spec = importlib.util.find_spec(name)
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            spec.loader.exec_module(module)
        return module

    return load
