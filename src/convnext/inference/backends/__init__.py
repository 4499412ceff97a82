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


def installed_backends(path: Path) -> list[str]:
    """Engines of a file that are installed, the fastest first."""
    return [name for name in FILE_BACKENDS[path.suffix] if name == "aot" or find_spec(name) is not None]


def open_engine(path: Path, meta: dict[str, Any], backend: str) -> Engine:
    """The engine for a file, with the model loaded.

    Args:
        path: an exported model.
        meta: what it says of itself.
        backend: one of the file's engines, or "auto": the first one that is installed.

    Raises:
        WeightsError: it cannot be run here.
        InputError: an engine that does not run such files.
    """
    engine = _opened(path, meta, backend)
    statistics = meta["export"].get("normalises")
    return engine if statistics is None else TakesPixels(engine, statistics)


class TakesPixels:
    """An engine whose model normalises pixels itself, called with normalised images like any other.

    Args:
        engine: takes pixels, uint8 `[N, H, W, C]`.
        statistics: mean and deviation of each channel, for values in 0..1.
    """

    def __init__(self, engine: Engine, statistics: list[list[float]]) -> None:
        self.engine, self.name, self.statistics = engine, engine.name, statistics

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return self.engine(pixels_of(images, self.statistics))


def pixels_of(images: np.ndarray, statistics: list[list[float]]) -> np.ndarray:
    """Normalised images `[N, C, H, W]` as the pixels that they were, uint8 `[N, H, W, C]`.

    `statistics` are mean and deviation of each channel, for values in 0..1.
    """
    mean, deviation = np.array(statistics, dtype=np.float32)[:, :, None, None]
    pixels = np.rint(255 * (images * deviation + mean)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _opened(path: Path, meta: dict[str, Any], backend: str) -> Engine:
    known = FILE_BACKENDS[path.suffix]
    if backend == "auto":
        backend = next(iter(installed_backends(path)), known[0])
    if backend not in known:
        raise InputError(f"{path} is run by {' or '.join(known)}, and not by backend '{backend}'")
    if backend == "onnxruntime":
        from convnext.inference.backends.onnx import OnnxEngine

        return OnnxEngine(path)
    if backend == "openvino":
        from convnext.inference.backends.openvino import OpenvinoEngine

        return OpenvinoEngine(path, meta["export"]["precision"])
    from convnext.inference.backends.aot import PackageEngine

    return PackageEngine(path, meta["export"]["cpu"], detects="boxes" in meta["export"]["outputs"])
