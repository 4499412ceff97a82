"""The Triton kernels for visible patches against PyTorch's convolution of whole maps.

Without a GPU they run in Triton's interpreter, and are compiled for one besides.
"""

import sys

import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

from convnext.models.masking import random_patches
from convnext.nn.depthwise import visible_patches as depthwise_visible
from convnext.nn.visible_patches import VisiblePatches

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

CASES = [  # N, p, grid, C, mask ratio
    (1, 1, (7, 7), 5, 0.9),
    (2, 1, (2, 3), 300, 0.6),  # several blocks of channels, the last not full
    pytest.param(2, 2, (4, 6), 40, 0.7, marks=pytest.mark.heavy),
    (2, 2, (7, 7), 5, 0.9),
    pytest.param(1, 2, (2, 3), 256, 0.25, marks=pytest.mark.heavy),  # full blocks
    (2, 3, (2, 3), 5, 0.5),
    (2, 4, (2, 3), 40, 0.25),
    pytest.param(2, 4, (4, 6), 5, 0.9, marks=pytest.mark.heavy),
    (2, 6, (2, 3), 5, 0.7),  # patches of 4 tiles of 9 positions
    pytest.param(1, 8, (2, 3), 5, 0.5, marks=pytest.mark.heavy),  # of 4 tiles of 16
]


@pytest.fixture(scope="module")
def kernels(triton_kernels):
    return triton_kernels("convnext.nn.triton.visible_depthwise")


@pytest.mark.skipif(DEVICE == "cuda", reason="the other tests compile the kernels")
@pytest.mark.parametrize("kernel", ["_convolution", "_weight_gradient"])
def test_kernels_compile_for_a_gpu(kernel, monkeypatch, tmp_path):
    """The interpreter takes more of Python than the compiler does."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from convnext.nn.triton import visible_depthwise

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(visible_depthwise, kernel)
    sizes = {"P": 2, "C": 64, "T": 2, "BLOCK": 64}
    types = dict.fromkeys(function.arg_names, "i32") | dict.fromkeys(sizes, "constexpr")
    types |= {"x": "*bf16", "grad": "*bf16", "out": "*bf16", "weight": "*fp32", "bias": "*fp32", "sums": "*fp32"}
    types |= {"index": "*i64", "slots": "*i32"}
    source = ASTSource(function, {name: types[name] for name in function.arg_names}, sizes)
    compiled = triton.compile(source, GPUTarget("cuda", 90, 32), visible_depthwise.VISIBLE_OPTIONS)
    assert compiled.asm["cubin"]


def case(images, p, grid, channels, ratio, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    patches = random_patches(images, grid, ratio, generator=generator)
    full = torch.promote_types(dtype, torch.float32)
    shape = (*patches.index.shape, p, p, channels)
    x, grad = (torch.randn(shape, generator=generator).to(DEVICE, dtype) for _ in range(2))
    weight, bias = (
        torch.randn(shape, generator=generator).to(DEVICE, full) for shape in [(channels, 1, 7, 7), (channels,)]
    )
    return VisiblePatches(patches.index.to(DEVICE), grid), x, weight, bias, grad


def run(kernels, patches, x, weight, bias, grad):
    tables = patches.index, kernels.slot_table(patches)
    return (
        kernels.visible_depthwise_forward(x, weight, bias, *tables),
        kernels.visible_depthwise_forward(grad, weight.flip(2, 3), None, *tables),
        kernels.visible_depthwise_weight_gradient(x, grad, *tables),
    )


def exact(patches, x, weight, bias, grad):
    x, weight = (t.double().requires_grad_() for t in (x, weight))
    maps = patches.fill(x).permute(0, 3, 1, 2)
    maps = F.conv2d(maps, weight, bias.double(), padding=3, groups=len(weight))
    out = patches.cut(maps.permute(0, 2, 3, 1))
    return out.detach(), *torch.autograd.grad(out, [x, weight], grad.double())


def relative_error(value, exact):
    return ((value.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize(("images", "p", "grid", "channels", "ratio"), CASES)
def test_output_and_gradients_equal_those_of_whole_maps(kernels, images, p, grid, channels, ratio):
    inputs = case(images, p, grid, channels, ratio)
    for ours, theirs in nonempty(zip(run(kernels, *inputs), exact(*inputs), strict=True)):
        assert ours.shape == theirs.shape
        assert ours.dtype == torch.float32
        assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(kernels, dtype):
    inputs = case(2, 2, (3, 3), 40, 0.6, dtype)
    results, references = run(kernels, *inputs), exact(*inputs)
    # Half-precision inputs and their products are exact in fp32, so that only the result's rounding to nearest, by
    # eps / 2 of a value at most, adds to fp32's error. fp64 is summed in fp64.
    error = 1e-13 if dtype == torch.float64 else 1e-5
    for ours, theirs in nonempty(zip(results[:2], references[:2], strict=True)):
        assert ours.dtype == dtype
        assert relative_error(ours, theirs) < error + torch.finfo(dtype).eps / 2
    assert results[2].dtype == torch.promote_types(dtype, torch.float32)
    assert relative_error(results[2], references[2]) < error


def test_without_bias(kernels):
    patches, x, weight, bias, _ = case(2, 2, (2, 3), 5, 0.5)
    tables = patches.index, kernels.slot_table(patches)
    out = kernels.visible_depthwise_forward(x, weight, None, *tables)
    torch.testing.assert_close(out + bias, kernels.visible_depthwise_forward(x, weight, bias, *tables))


def test_runs_of_tiles_change_nothing(kernels, monkeypatch):
    inputs = case(2, 2, (4, 6), 5, 0.8)
    out, dx, dweight = run(kernels, *inputs)
    monkeypatch.setattr(kernels, "CONVOLUTION_PROGRAMS", 3)
    monkeypatch.setattr(kernels, "WEIGHT_GRADIENT_PROGRAMS", 3)  # 8 tiles: runs of 3, 3 and 2
    longer = run(kernels, *inputs)
    assert torch.equal(longer[0], out)
    assert torch.equal(longer[1], dx)
    torch.testing.assert_close(longer[2], dweight)


def test_results_are_the_same_every_time(kernels):
    inputs = case(2, 4, (2, 3), 5, 0.6)
    for first, second in nonempty(zip(run(kernels, *inputs), run(kernels, *inputs), strict=True)):
        assert torch.equal(first, second)


def test_an_image_does_not_depend_on_another(kernels):
    patches, x, weight, bias, grad = case(2, 2, (3, 3), 5, 0.6)
    before = run(kernels, patches, x, weight, bias, grad)
    x[1], grad[1] = torch.nan, torch.nan
    after = run(kernels, patches, x, weight, bias, grad)
    for one, other in nonempty(zip(before[:2], after[:2], strict=True)):
        assert torch.equal(one[0], other[0])
        assert other[1].isnan().all()


def test_a_patch_out_of_reach_does_not_matter(kernels):
    """Nor does a hidden one, which is nowhere stored: patch 1 of 4 lies between."""
    patches = VisiblePatches(torch.tensor([[0, 2, 3]], device=DEVICE), (1, 4))
    _, x, weight, bias, grad = case(1, 4, (1, 4), 5, 0.25)
    before = run(kernels, patches, x, weight, bias, grad)
    x[:, 0], grad[:, 0] = torch.nan, torch.nan
    after = run(kernels, patches, x, weight, bias, grad)
    for one, other in nonempty(zip(before[:2], after[:2], strict=True)):
        assert torch.equal(one[:, 1:], other[:, 1:])


def test_no_images(kernels):
    patches, x, weight, bias, grad = case(2, 2, (2, 3), 5, 0.5)
    out, dx, dweight = run(kernels, VisiblePatches(patches.index[:0], (2, 3)), x[:0], weight, bias, grad[:0])
    assert out.shape == dx.shape == x[:0].shape
    assert torch.equal(dweight, torch.zeros_like(weight))


def test_the_operators_on_cuda_call_the_kernels(kernels, monkeypatch):
    monkeypatch.setitem(sys.modules, "convnext.nn.triton.visible_depthwise", kernels)
    monkeypatch.setattr("convnext.nn.triton.visible_depthwise", kernels, raising=False)
    patches, x, weight, bias, grad = case(2, 2, (2, 3), 5, 0.5)
    tables = depthwise_visible.slot_tables(patches)
    out, dx, dweight = run(kernels, patches, x, weight, bias, grad)
    assert torch.equal(depthwise_visible._cuda_forward(x, weight, bias, tables), out)
    assert torch.equal(depthwise_visible._cuda_forward(grad, weight.flip(2, 3), None, tables), dx)
    assert torch.equal(depthwise_visible._cuda_weight_gradient(x, grad, tables), dweight)


def test_slot_table(kernels):
    patches = random_patches(3, (4, 5), 0.6)
    table = kernels.slot_table(patches)
    assert table.dtype == torch.int32
    assert torch.equal(table < 0, patches.mask())
    assert torch.equal(table.flatten(1).gather(1, patches.index), torch.arange(8, dtype=torch.int32).expand(3, 8))
