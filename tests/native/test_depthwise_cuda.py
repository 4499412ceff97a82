"""The CUDA kernels for whole maps against PyTorch's convolution in fp64.

Without a GPU, `depthwise.cu` is compiled as C++, a thread of the machine for each of the GPU's (`emulated.cpp`), and by
NVRTC for GPUs besides.
"""

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from convnext.native import depthwise_cuda as cuda

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 5e-4}

SHAPES = [(2, 5, 3, 40), (1, 7, 7, 8), (2, 14, 14, 4), (1, 30, 17, 6), (5, 1, 20, 2), (1, 23, 8, 48)]  # N, H, W, C


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The folder of the libraries, each compiled once."""
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(params=["as planned", "in many chunks"])
def kernels(request, monkeypatch, emulated):
    """The module, its kernels run by this machine where no GPU is."""
    if request.param == "in many chunks":
        monkeypatch.setattr(cuda, "row_chunks", lambda work, height, capacity: max(1, height // 7))
    if DEVICE == "cpu":
        monkeypatch.setattr(cuda, "capacity", lambda device: 6)
        monkeypatch.setattr(cuda, "launch_kernel", lambda *arguments: emulate(emulated, *arguments))
    return cuda


def emulate(folder: Path, name, x, grid, block, arguments):
    library = folder / f"{x.dtype}-{x.shape[-1]}.so"
    if not library.is_file():
        flags = [f"-DTYPE={cuda.TYPES[x.dtype]}", f"-DCHANNELS={x.shape[-1]}", f"-I{cuda.CUDA_SOURCE.parent}"]
        source = Path(__file__).with_name("emulated.cpp")
        command = ["g++", "-std=c++20", "-O1", "-Wno-unknown-pragmas", "-shared", "-fPIC", "-pthread"]
        subprocess.run([*command, *flags, str(source), "-o", str(library)], check=True)
    tensors = [ctypes.c_void_p(t.data_ptr()) for t in arguments if isinstance(t, torch.Tensor)]
    sizes = [size for size in arguments if not isinstance(size, torch.Tensor)]
    as_ints = [(ctypes.c_int * len(values))(*values) for values in (grid, sizes)]
    getattr(ctypes.CDLL(str(library)), f"run_{name}")(as_ints[0], *tensors, as_ints[1])


def case(shape, dtype):
    channels = shape[-1]
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=generator).to(DEVICE, dtype) for _ in range(2))
    weight, bias = torch.randn(channels, 1, 7, 7, generator=generator), torch.randn(channels, generator=generator)
    return x, grad, weight.to(DEVICE), bias.to(DEVICE)


def reference(x, grad, weight, bias):
    """Output, and gradients of input, weight and bias, in fp64."""
    leaves = [t.double().requires_grad_() for t in (x, weight, bias)]
    out = F.conv2d(leaves[0].permute(0, 3, 1, 2), leaves[1], leaves[2], padding=3, groups=len(bias)).permute(0, 2, 3, 1)
    return out, *torch.autograd.grad(out, leaves, grad.double())


def error(value, expected):
    return ((value.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients_are_those_of_pytorch_in_fp64(kernels, shape, dtype):
    x, grad, weight, bias = case(shape, dtype)
    out, dx, dweight, dbias = reference(x, grad, weight, bias)
    assert error(kernels.convolve(x, weight, bias), out) < TOLERANCE[dtype]
    assert error(kernels.convolve(grad, weight.flip(2, 3), None), dx) < TOLERANCE[dtype]
    found = kernels.weight_gradient(x, grad)
    assert found[0].stride() == dweight.stride()  # torch.compile takes the operator's word for it
    assert error(found[0], dweight) < 1e-5
    assert error(found[1], dbias) < 1e-5


def test_rows_are_cut_where_that_fills_the_gpu():
    assert cuda.row_chunks(100, 56, 1000) > 1  # a tenth of it would be busy
    assert cuda.row_chunks(1000, 56, 1000) == 1  # one full round
    assert cuda.row_chunks(10, 6, 1000) == 1  # nothing to cut


@pytest.mark.parametrize("capability", ["80", "90", "100"])
@pytest.mark.parametrize("name", ["convolve", "weight_gradient"])
def test_kernels_compile_for_gpus(name, capability):
    from torch.cuda import _utils as utils

    try:
        utils._get_gpu_rtc_library()
    except (OSError, AttributeError):
        pytest.skip("this PyTorch has no NVRTC")
    source = f"#define TYPE 1\n#define CHANNELS 96\n{cuda.CUDA_SOURCE.read_text()}"
    binary, _ = utils._nvrtc_compile(source, name, capability)
    assert binary[:4] == b"\x7fELF"
