"""ONNX files by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convnext.storage.exports import damaged, missing


class OnnxEngine:
    """A loaded ONNX model. `WeightsError` where ONNX Runtime is not installed or refuses the file."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing("onnxruntime", path) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of types of its own, which share no base
            raise damaged(path, error) from None
        self.input = self.session.get_inputs()[0].name
        self.name = f"onnxruntime {onnxruntime.__version__}"

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return self.session.run(None, {self.input: images})
