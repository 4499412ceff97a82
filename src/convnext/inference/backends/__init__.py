"""Engines that run exported models: arrays in, arrays out; only the one for compiled packages imports torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convnext.errors import InputError


class Engine(Protocol):
    """A loaded model."""

    name: str
    """Library and version."""

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Normalised images float32 `[N, C, H, W]` to the model's outputs, each `[N, ...]`."""
        ...


FILE_BACKENDS = {".onnx": ("openvino", "onnxruntime"), ".xml": ("openvino",), ".pt2": ("aot",)}
"""Engines of each kind of file, the faster one first."""


def open_engine(path: Path, meta: dict[str, Any], backend: str = "auto") -> Engine:
    """The engine for a file, with the model loaded.

    Args:
        path: an exported model.
        meta: what it says of itself.
        backend: one of the file's engines, or "auto": the first one that is installed.

    Raises:
        WeightsError: it cannot be run here.
        InputError: an engine that does not run such files.
    """
    known = FILE_BACKENDS[path.suffix]
    if backend == "auto":
        backend = next((name for name in known if name == "aot" or find_spec(name) is not None), known[0])
    if backend not in known:
        raise InputError(f"{path} is run by {' or '.join(known)}, and not by backend '{backend}'")
    if backend == "onnxruntime":
        from convnext.inference.backends.onnx import OnnxEngine

        return OnnxEngine(path)
    if backend == "openvino":
        from convnext.inference.backends.openvino import OpenvinoEngine

        return OpenvinoEngine(path, meta["export"]["precision"])
    from convnext.inference.backends.aot import PackageEngine

    return PackageEngine(path, meta["export"]["cpu"])
