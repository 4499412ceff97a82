"""OpenVINO's models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from convnext.storage.exports import damaged, missing

FIXED_SHAPES = 2
"""Shapes of images for which a model is compiled anew: a full batch, and a last one or a single image."""
LARGE = 2**30
"""Size of weights, in bytes, from which they are not held several times."""
ANY_SHAPE = (-1, -1, -1, -1)


@cache
def core() -> Any:
    """OpenVINO's core, one for the process.

    A core gives the thread a stack to handle signals on, and takes it back when it goes. Where several go in the order
    they were made, OpenVINO 2026.4 leaves the thread one that is freed: the next signal that Python handles, as an
    interrupted training's, would end the process by a fault.
    """
    import openvino

    return openvino.Core()


def computed_types() -> list[str]:
    """OpenVINO's names of the types that this processor has instructions for."""
    return core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class CompiledModel:
    """An OpenVINO model on the CPU, for images of any shape that it takes.

    Images of a shape that comes again are computed by a model of that shape alone, which is a tenth faster and takes
    0.1 to 0.3 s to make; others by one for all shapes.

    Args:
        model: an `openvino.Model` of one input, images `[N, C, H, W]`.
        precision: "bf16" computes in bf16; "int8" what is not in 8 bits too, on processors that have it; others in
            fp32, which OpenVINO does not by itself where the processor has faster types.
        threads: at most; None leaves it to OpenVINO.
    """

    makes_more: ClassVar[bool] = True
    """Whether shapes that come again still get models of their own."""

    def __init__(self, model: Any, precision: str, threads: int | None = None) -> None:
        self.model = model
        half = precision == "bf16" or (precision == "int8" and "BF16" in computed_types())
        self.settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}
        if threads is not None:
            self.settings["INFERENCE_NUM_THREADS"] = threads
        weights = sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")
        self.most_fixed = FIXED_SHAPES if weights < LARGE else 0
        self.compiled: dict[tuple[int, ...], Any] = {}
        self.seen: set[tuple[int, ...]] = set()

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Images to the model's outputs, each `[N, ...]`."""
        return list(self.model_for(images.shape)(images).to_tuple())

    def model_for(self, shape: tuple[int, ...]) -> Any:
        """The compiled model for images of a shape."""
        if shape not in self.compiled:
            fixed = len(self.compiled.keys() - {ANY_SHAPE})
            if shape not in self.seen or fixed >= self.most_fixed or not self.makes_more:
                self.seen.add(shape)
                shape = ANY_SHAPE
        if shape not in self.compiled:
            model = self.model
            if shape != ANY_SHAPE:
                model = model.clone()
                model.reshape(list(shape))
            self.compiled[shape] = core().compile_model(model, "CPU", self.settings)
        return self.compiled[shape]


def make_no_more() -> None:
    """Have this process make no more models for single shapes: which one computes an answer shows in its last digits,
    and from now on no longer depends on what was answered before."""
    CompiledModel.makes_more = False


class OpenvinoEngine:
    """OpenVINO on a model's file.

    Args:
        path: an `.xml` file with the `.bin` file beside it, or an `.onnx` file.
        precision: of `CompiledModel`.

    Raises:
        WeightsError: OpenVINO is not installed, or refuses the file.
    """

    def __init__(self, path: Path, precision: str) -> None:
        try:
            import openvino
        except ImportError:
            raise missing("openvino", path) from None
        try:
            self.model = CompiledModel(core().read_model(str(path)), precision)
            self.model.model_for(ANY_SHAPE)
        except RuntimeError as error:
            raise damaged(path, error) from None
        self.name = f"openvino {openvino.__version__.split('-')[0]}"

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return self.model(images)
