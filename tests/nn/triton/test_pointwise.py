"""The Triton kernels between a block's matrix products, against autograd in fp64.

Without a GPU they run in Triton's interpreter, and are compiled for one besides.
"""

import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

from convnext.nn.block import Block
from convnext.nn.norm import GRN

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

SHAPES = [(1, 1, 4), (3, 19, 12), (2, 49, 40), (2, 300, 8), (1, 33, 80)]  # N, P, C; several runs of positions, blocks
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.fixture(scope="module")
def kernels(triton_kernels):
    return triton_kernels("convnext.nn.triton.pointwise")


def case(images, positions, dim, dtype, version=2):
    """A block with weights that all matter, its input and its output's gradient, in fp64; and rounded to a type."""
    generator = torch.Generator().manual_seed(positions)
    block = Block(dim, version=version).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    x, grad = (torch.randn(images, positions, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    weights = [block.pwconv1.weight, block.pwconv1.bias, None, None, block.pwconv2.weight, block.pwconv2.bias]
    if version == 2:
        weights[2:4] = [block.grn.gamma.flatten(), block.grn.beta.flatten()]
    full = torch.promote_types(dtype, torch.float32)
    rounded = [None if w is None else w.detach().to(dtype).to(DEVICE, full) for w in weights]
    return x.to(DEVICE, dtype), grad.to(DEVICE, dtype), rounded


def by_autograd(x, grad, weights):
    """Output and gradients of x and weights, in fp64."""
    leaves = [None if t is None else t.detach().double().requires_grad_() for t in (x, *weights)]
    x, w1, b1, gamma, beta, w2, b2 = leaves
    a = F.gelu(F.linear(x, w1, b1))
    if gamma is not None:
        grn = GRN(len(gamma))
        del grn.gamma, grn.beta
        grn.gamma, grn.beta = gamma, beta
        a = grn(a)
    out = F.linear(a, w2, b2)
    given = [t for t in leaves if t is not None]
    return out, torch.autograd.grad(out, given, grad.double())


def error(value, reference):
    return ((value.double() - reference).norm() / reference.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param(shape, dtype, id=f"{shape}-{dtype}", marks=pytest.mark.heavy if is_slow else ())
        for shape in SHAPES
        for dtype in TOLERANCE
        for is_slow in [dtype == torch.float64 and shape not in SHAPES[:2]]
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_output_and_gradients_are_those_of_autograd_in_fp64(kernels, shape, dtype, version):
    if DEVICE == "cpu" and dtype == torch.float16:
        pytest.skip("the CPU has no products of fp16")
    x, grad, weights = case(*shape, dtype, version)
    w1, b1, gamma, beta, w2, b2 = weights
    reference, gradients = by_autograd(x, grad, weights)
    out, hidden, norms = kernels.triton_mlp_forward(x, w1, b1, gamma, beta, w2, b2, True)
    assert out.dtype == hidden.dtype == dtype
    assert error(out, reference) < TOLERANCE[dtype]
    found = kernels.triton_mlp_backward(grad, x, hidden, norms, w1, gamma, beta, w2)
    if version == 1:
        found = [*found[:3], *found[5:]]
    for value, expected in nonempty(zip(found, gradients, strict=True)):
        assert error(value, expected) < TOLERANCE[dtype]


def test_without_keeping_the_output_is_the_same(kernels):
    x, _, weights = case(2, 49, 40, torch.float32)
    kept, _, _ = kernels.triton_mlp_forward(x, *weights, True)
    out, hidden, norms = kernels.triton_mlp_forward(x, *weights, False)
    assert torch.equal(out, kept)
    assert hidden.numel() == norms.numel() == 0


def test_an_image_does_not_depend_on_the_others(kernels):
    x, _, weights = case(3, 19, 12, torch.float32)
    together, _, _ = kernels.triton_mlp_forward(x, *weights, True)
    alone, _, _ = kernels.triton_mlp_forward(x[1:2].contiguous(), *weights, True)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-6, atol=1e-6)


def test_channels_that_are_nowhere_active_have_finite_gradients(kernels):
    """A norm of 0 has no gradient of its own."""
    x, grad, weights = case(2, 19, 12, torch.float32)
    w1, b1, gamma, beta, w2, _ = weights
    w1[:5], b1[:5] = 0, 0
    _, hidden, norms = kernels.triton_mlp_forward(x, *weights, True)
    assert (norms[:, :5] == 0).all()
    for value in nonempty(kernels.triton_mlp_backward(grad, x, hidden, norms, w1, gamma, beta, w2)):
        assert value.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gelu_is_exact_to_the_type(kernels, dtype):
    """Over its whole range, the tails included."""
    h = torch.linspace(-12, 12, 4096, dtype=torch.float64).to(DEVICE, dtype).view(1, 32, 128)
    exact = F.gelu(h.double())
    found = kernels.apply(h, None, None, torch.full_like(h, torch.nan)).double()
    rounding = 2**-8 if DEVICE == "cuda" else 2**-7  # the interpreter cuts off
    tolerance = {torch.float32: 2e-6, torch.bfloat16: rounding}[dtype]
    assert ((found - exact).abs() <= tolerance * exact.abs() + 1e-6).all()


@pytest.mark.skipif(DEVICE == "cuda", reason="the other tests compile the kernels")
@pytest.mark.parametrize(
    "kernel", ["_square_sums", "_scale", "_apply", "_scale_sums", "_scale_backward", "_apply_backward"]
)
def test_kernels_compile_for_a_gpu(kernel, monkeypatch, tmp_path):
    """The interpreter takes more of Python than the compiler does."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from convnext.nn.triton import pointwise

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(pointwise, kernel)
    constants = {"WIDE": 384, "RUN": 256, "ROWS": 16, "BLOCK": 128, "EXACT": False, "GRN": True}
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    if "scale" in kernel and "sums" not in kernel:
        constants["BLOCK"] = 512
    types = dict.fromkeys(function.arg_names, "*fp32") | dict.fromkeys(constants, "constexpr")
    types |= {name: "i32" for name in ("positions", "chunks") if name in types}
    types |= {name: "*bf16" for name in ("hidden", "grad", "out") if name in types}
    compiled = triton.compile(
        ASTSource(function, types, constants), GPUTarget("cuda", 90, 32), pointwise.POINTWISE_OPTIONS
    )
    assert compiled.asm["cubin"]
