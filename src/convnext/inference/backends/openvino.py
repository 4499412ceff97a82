"""OpenVINO's models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convnext.weights.exports import damaged, missing


class OpenvinoEngine:
    """A compiled OpenVINO model.

    Args:
        path: the `.xml` file, with the `.bin` file beside it.
        precision: "bf16" computes in bf16; others in fp32, which OpenVINO does not by itself where the processor has
            faster types.

    Raises:
        WeightsError: OpenVINO is not installed, or refuses the file.
    """

    def __init__(self, path: Path, precision: str) -> None:
        try:
            import openvino
        except ImportError:
            raise missing("openvino", path) from None
        hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        try:
            self.model = openvino.Core().compile_model(str(path), "CPU", hint)
        except RuntimeError as error:
            raise damaged(path, error) from None
        self.name = f"openvino {openvino.__version__.split('-')[0]}"

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        found = self.model(images)
        return [found[output] for output in self.model.outputs]
