"""What a GPU would compute in, without one: networks of fake CUDA tensors, under CUDA's autocast.

Fake tensors have a shape, a type and a device, and no memory. Every call of an operator is counted, with the bytes that
it reads and writes; a copy of all this for a GPU at work is in docs/results.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convnext.models.classifier import create_model
from convnext.models.detection.rcnn import create_detector
from convnext.models.fcmae import create_fcmae
from convnext.models.masking import random_patches
from convnext.models.segmentation.upernet import create_segmenter
from convnext.native import depthwise_cuda as cuda
from convnext.nn.triton import available as gpu


class Count(TorchDispatchMode):
    """Calls of operators that do something, and the bytes of their inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.bytes, self.synchronised = 0, 0, list[str]()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.__name__.split(".")[0]
        if name in ("_local_scalar_dense", "nonzero", "is_nonzero"):
            self.synchronised.append(name)
        if function.namespace in ("aten", "convnext") and not function.is_view and isinstance(out, Tensor | tuple):
            self.calls += 1
            self.bytes += sum(t.nbytes for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor))
        return out


@contextmanager
def on_a_gpu(precision: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Inside, tensors are fake, and CUDA's autocast is on, though no CUDA is there."""
    before = torch.get_autocast_dtype("cuda")
    with FakeTensorMode():
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", precision)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", before)
            torch.clear_autocast_cache()


@pytest.fixture(params=["with kernels", "without"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each in turn: Triton and NVRTC work; neither does."""
    monkeypatch.setattr(gpu, "_works", lambda: request.param == "with kernels")
    monkeypatch.setattr(cuda, "_works", lambda device: request.param == "with kernels")
    return request.param


def moved(build: Callable[[], nn.Module]) -> nn.Module:
    """A network, made without memory and put on the GPU that is not there."""
    with unset_fake_temporarily(), torch.device("meta"):
        model = build()
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(torch.empty(parameter.shape, device="cuda"))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
    return model


def images(count: int, height: int, width: int) -> Tensor:
    return torch.empty(count, 3, height, width, device="cuda")


def classifier() -> tuple[nn.Module, Callable[[nn.Module], object]]:
    return moved(lambda: create_model("convnextv2_atto")), lambda model: model(images(8, 224, 224))


def classifier_v1() -> tuple[nn.Module, Callable[[nn.Module], object]]:
    return moved(lambda: create_model("convnext_tiny")), lambda model: model(images(2, 224, 224))


def autoencoder() -> tuple[nn.Module, Callable[[nn.Module], object]]:
    patches = random_patches(8, (7, 7), 0.6, device="cuda")
    return moved(lambda: create_fcmae("convnextv2_atto")), lambda model: model(images(8, 224, 224), patches)


def segmenter() -> tuple[nn.Module, Callable[[nn.Module], object]]:
    model = moved(lambda: create_segmenter("convnextv2_atto", num_classes=3, fpn_dim=32, aux_dim=16))
    return model, lambda model: model(images(2, 96, 128))


def detector() -> tuple[nn.Module, Callable[[nn.Module], object]]:
    model = moved(lambda: create_detector("convnextv2_atto", num_classes=3, fpn_dim=32, linear_dim=64))
    return model, lambda model: model.backbone(images(2, 128, 192))


@pytest.mark.parametrize("build", [classifier, classifier_v1, autoencoder, segmenter, detector])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_every_stage_computes_in_the_type_that_was_asked_for(
    build: Callable, kernels: str, precision: torch.dtype
) -> None:
    """CUDA's autocast would have LayerNorm give fp32, and with it all of the first stage."""
    found: dict[str, torch.dtype] = {}
    with on_a_gpu(precision):
        model, call = build()
        for name, module in model.named_modules():
            if type(module).__name__ in ("Block", "LayerNorm", "GRN", "DepthwiseConv", "PatchConv"):
                module.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.dtype}))
        with torch.no_grad():
            call(model)
    last = ("norm", "norms.0", "norms.1", "norms.2", "norms.3")
    assert len(found) > 20
    assert {name: dtype for name, dtype in found.items() if dtype != precision and name not in last} == {}


@pytest.mark.parametrize("build", [classifier, classifier_v1, autoencoder])
def test_nothing_waits_for_the_gpu(build: Callable, kernels: str) -> None:
    with on_a_gpu():
        model, call = build()
        with torch.no_grad():
            call(model)  # tables are built
            with Count() as count:
                call(model)
    assert count.synchronised == []


# Forward passes of V2-Tiny at batch 128: operators, ours being one each, and the GB that go in and out of them.
KNOWN = {"with kernels": (169, 6.4), "without": (448, 29.0)}


def test_a_forward_pass_moves_no_more_than_it_did(kernels: str) -> None:
    with on_a_gpu():
        model = moved(lambda: create_model("convnextv2_tiny")).train()
        with torch.no_grad(), Count() as count:
            model(images(128, 224, 224))
    calls, gigabytes = KNOWN[kernels]
    assert calls / 2 < count.calls < 1.1 * calls
    assert gigabytes / 2 < count.bytes / 1e9 < 1.1 * gigabytes
