"""Engines that run exported models: arrays in, arrays out; only the one for compiled packages imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """A loaded model."""

    name: str
    """Library and version."""

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Normalised images float32 `[N, C, H, W]` to the model's outputs, each `[N, ...]`."""
        ...


def open_engine(path: Path, meta: dict[str, Any]) -> Engine:
    """The engine for a file, with the model loaded. `WeightsError` where it cannot be run here."""
    if path.suffix == ".onnx":
        from convnext.inference.backends.onnx import OnnxEngine

        return OnnxEngine(path)
    if path.suffix == ".xml":
        from convnext.inference.backends.openvino import OpenvinoEngine

        return OpenvinoEngine(path, meta["export"]["precision"])
    from convnext.inference.backends.aot import PackageEngine

    return PackageEngine(path, meta["export"]["cpu"])
