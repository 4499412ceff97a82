"""The Triton kernels of LayerNorm and of sums over positions, against autograd in fp64.

Without a GPU they run in Triton's interpreter, and are compiled for one besides.
"""

import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(1, 4), (57, 12), (140, 40), (33, 96), (3, 2100)]  # M, C; more rows than a program has, and fewer
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(scope="module")
def kernels(triton_kernels):
    return triton_kernels("convnext.nn.triton.norm")


def error(value, reference):
    return ((value.double() - reference).norm() / reference.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param(shape, dtype, id=f"{shape}-{dtype}", marks=pytest.mark.heavy if is_slow else ())
        for shape in SHAPES
        for dtype in TOLERANCE
        for is_slow in [dtype != torch.float32 and shape == SHAPES[-1]]
    ],
)
def test_output_and_gradients_are_those_of_pytorch_in_fp64(kernels, shape, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "PROGRAMS", 2)  # so that a program has several tiles of rows
    rows, channels = shape
    generator = torch.Generator().manual_seed(rows)
    x, grad = ((torch.randn(shape, generator=generator) + 3).to(DEVICE, dtype) for _ in range(2))
    full = torch.promote_types(dtype, torch.float32)
    weight, bias = (torch.randn(channels, generator=generator).to(DEVICE, full) for _ in range(2))
    out, mean, inverse = kernels.layer_norm(x, weight, bias, 1e-6)
    found = kernels.layer_norm_backward(grad, x, weight, mean, inverse)
    leaves = [t.double().requires_grad_() for t in (x, weight, bias)]
    expected = F.layer_norm(leaves[0], (channels,), leaves[1], leaves[2], 1e-6)
    assert out.dtype == x.dtype
    assert found[1].dtype == full
    assert error(out, expected) < TOLERANCE[dtype]
    for value, reference in nonempty(zip(found, torch.autograd.grad(expected, leaves, grad.double()), strict=True)):
        assert error(value, reference) < TOLERANCE[dtype]


@pytest.mark.parametrize("shape", [*SHAPES, (300, 700)], ids=str)
def test_sums_over_rows(kernels, shape, monkeypatch):
    monkeypatch.setattr(kernels, "PROGRAMS", 2)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    sums = kernels.triton_column_sums(x.bfloat16())
    assert sums.dtype == torch.float32
    assert error(sums, x.bfloat16().double().sum(0)) < 1e-6


@pytest.mark.skipif(DEVICE == "cuda", reason="the other tests compile the kernels")
@pytest.mark.parametrize("kernel", ["_forward", "_backward", "_column_sums"])
@pytest.mark.parametrize("channels", [96, 768])
def test_kernels_compile_for_a_gpu(kernel, channels, monkeypatch, tmp_path):
    """The interpreter takes more of Python than the compiler does."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from convnext.nn.triton import norm

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(norm, kernel)
    block, height = norm._tile(channels)
    constants = {"C": channels, "BLOCK": block, "ROWS": height}
    types = dict.fromkeys(function.arg_names, "*fp32") | dict.fromkeys(constants, "constexpr")
    types |= {name: "i32" for name in ("rows", "run") if name in types}
    types |= {name: "fp32" for name in ("eps",) if name in types}
    types |= {name: "*bf16" for name in ("x", "grad", "out", "dx") if name in types}
    assert triton.compile(ASTSource(function, types, constants), GPUTarget("cuda", 90, 32), norm.NORM_OPTIONS).asm[
        "cubin"
    ]
