"""The engine that computes a network in memory: PyTorch, PyTorch compiled, or OpenVINO on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from convnext.errors import InputError
from convnext.models.classifier import Classifier
from convnext.nn.backbone import ConvNeXt
from convnext.runtime.device import DTYPES, Precision

NETWORK_BACKENDS = ("auto", "torch", "compile", "openvino")


def use_backend(model: nn.Module, backend: str, precision: Precision) -> str:
    """Have a network on its device computed by an engine, from now on; returns the engine's name and version.

    A classifier is computed whole; of other networks the backbone, and PyTorch computes the head. "auto" is OpenVINO on
    a CPU, where it is installed, else PyTorch. Compiling takes 15 to 60 s at the first image, and again for other
    shapes: it is never "auto".

    Args:
        model: a network of this project, for inference.
        backend: one of `NETWORK_BACKENDS`.
        precision: type of weights and activations; "fp16" for accelerators alone.

    Raises:
        InputError: an engine that is not installed, or does not compute on the network's device or in this precision.
    """
    if precision not in DTYPES:
        raise InputError(f"weights are computed in {', '.join(DTYPES)}, and not in '{precision}'")
    stop_engine(model)
    device = next(model.parameters()).device
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision fp16 is for GPUs; on a CPU there is bf16")
    backbone = backbone_of_model(model)
    assert backbone is not None
    if backend == "auto":
        backend = "openvino" if device.type == "cpu" and find_spec("openvino") is not None else "torch"
    if backend == "openvino":
        return _use_openvino(model, backbone, precision)
    if backend not in NETWORK_BACKENDS:
        raise InputError(f"weights are run by {', '.join(NETWORK_BACKENDS[1:])}, and not by '{backend}'")
    model.to(DTYPES[precision])
    version = f"torch {torch.__version__.split('+')[0]}"
    if backend == "torch":
        return version
    stages = _compiled(backbone.run_stages, device)
    backbone.engine = lambda images, last_only: stages(images)
    if isinstance(model, Classifier):
        model.whole_engine = _compiled(model.run_whole, device)
    return f"{version}, compiled at the first image"


def _compiled(run: Callable[[Tensor], Any], device: torch.device) -> Callable[[Tensor], Any]:
    """A network's method, compiled; on a CPU with its weights laid out for the products once. A GPU gains nothing by
    it."""
    from torch._inductor import config as inductor

    compiled = torch.compile(run)
    if device.type != "cpu":
        return compiled

    def call(images: Tensor) -> Any:
        # Given to torch.compile as an option, this is not seen by Dynamo, and changes nothing (PyTorch 2.15).
        with inductor.patch(freezing=True):
            return compiled(images)

    return call


def stop_engine(model: nn.Module) -> None:
    """Have a network computed by PyTorch again."""
    backbone = backbone_of_model(model)
    if backbone is not None:
        backbone.engine = None
    if isinstance(model, Classifier):
        model.whole_engine = None


@contextmanager
def without_engine(model: nn.Module) -> Iterator[None]:
    """Inside, PyTorch computes a network that an engine computes before and after."""
    parts: list[tuple[Any, str]] = [(backbone_of_model(model), "engine"), (model, "whole_engine")]
    engines = [(part, name, getattr(part, name, None)) for part, name in parts]
    stop_engine(model)
    try:
        yield
    finally:
        for part, name, engine in engines:
            if engine is not None:
                setattr(part, name, engine)


def backbone_of_model(model: nn.Module) -> ConvNeXt | None:
    """The backbone of a classifier, which is one itself, or of a network with another head; None of an export."""
    found = model if isinstance(model, ConvNeXt) else model._modules.get("backbone")
    return found if isinstance(found, ConvNeXt) else None


def _use_openvino(model: nn.Module, backbone: ConvNeXt, precision: Precision) -> str:
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise InputError(f"backend 'openvino' computes on CPUs, and the device is {device}")
    try:
        import openvino

        from convnext.inference.backends.operators import OpenvinoNetwork
    except ImportError:
        raise InputError("backend 'openvino' is not installed: pip install 'convnext[export]'") from None
    engine = OpenvinoNetwork(backbone, precision)
    backbone.engine = engine.stages
    if isinstance(model, Classifier):
        model.whole_engine = engine.whole
    model.to(DTYPES[precision])
    return f"openvino {openvino.__version__.split('-')[0]}"
