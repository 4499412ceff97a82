"""The CPU's convolution of visible patches against PyTorch's of whole maps, over patch sizes and types."""

import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

from convnext.models.masking import random_patches
from convnext.nn.depthwise.visible_patches import tile_tables, visible_depthwise_conv

CASES = [  # N, p, grid, C, ratio
    (2, 8, (7, 7), 40, 0.6),
    (3, 16, (2, 3), 5, 0.5),
    (2, 4, (4, 6), 16, 0.75),
    (5, 4, (2, 2), 8, 0.25),
    (2, 3, (3, 3), 8, 0.5),
    (3, 2, (7, 7), 12, 0.9),
    (4, 1, (7, 5), 24, 0.25),
    (1, 11, (2, 2), 70, 0.5),
]


def case(images, p, grid, channels, ratio, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    patches = random_patches(images, grid, ratio, generator=generator)
    shape = (*patches.index.shape, p, p, channels)
    x, grad = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    weight, bias = (torch.randn(s, generator=generator) for s in [(channels, 1, 7, 7), (channels,)])
    return patches, x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), grad


def results(out, x, weight, bias, grad):
    return [out.detach(), *torch.autograd.grad(out, [x, weight, bias], grad.to(out.dtype))]


def exact(patches, x, weight, bias):
    maps = patches.fill(x.double()).permute(0, 3, 1, 2)
    maps = F.conv2d(maps, weight.double(), bias.double(), padding=3, groups=len(weight))
    return patches.cut(maps.permute(0, 2, 3, 1))


def relative_error(value, exact):
    return ((value.double() - exact.double()).norm() / exact.double().norm()).item()


@pytest.mark.parametrize(("images", "p", "grid", "channels", "ratio"), CASES)
def test_output_and_gradients_equal_those_of_whole_maps(images, p, grid, channels, ratio, cpu_kernels):
    patches, x, weight, bias, grad = case(images, p, grid, channels, ratio)
    ours = results(visible_depthwise_conv(x, weight, bias, patches), x, weight, bias, grad)
    theirs = results(exact(patches, x, weight, bias), x, weight, bias, grad)
    for mine, other in nonempty(zip(ours, theirs, strict=True)):
        assert mine.shape == other.shape
        assert relative_error(mine, other) < 1e-5


@pytest.mark.parametrize("p", [1, 4])
def test_fp64_passes_gradcheck(p):
    patches, x, weight, bias, _ = case(2, p, (2, 3), 2, 0.5, torch.float64)
    weight, bias = (t.detach().double().requires_grad_() for t in (weight, bias))
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: visible_depthwise_conv(x, weight, bias, patches), (x, weight, bias)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [2, 8])
def test_half_precision_rounds_only_at_the_end(dtype, p):
    patches, x, weight, bias, grad = case(2, p, (3, 3), 16, 0.6, dtype)
    with torch.autocast("cpu", dtype):
        ours = results(visible_depthwise_conv(x, weight, bias, patches), x, weight, bias, grad)
    theirs = results(exact(patches, x, weight, bias), x, weight, bias, grad)
    assert [t.dtype for t in ours] == [dtype, dtype, torch.float32, torch.float32]
    for mine, other in zip(ours, theirs, strict=True):
        # Weights are rounded too, and the weight gradient's parts are.
        assert relative_error(mine, other) < 2 * torch.finfo(dtype).eps


def test_operators_keep_their_promises_to_the_compiler():
    patches, x, weight, bias, grad = case(2, 4, (2, 3), 8, 0.5)
    tables = tile_tables(patches, 4)
    weight, bias = weight.detach(), bias.detach()
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch.ops.convnext.visible_depthwise.default, (x.detach(), weight, bias, tables), test_utils=checks
    )
    torch.library.opcheck(
        torch.ops.convnext.visible_depthwise_weight_gradient.default, (x.detach(), grad, tables), test_utils=checks
    )


@pytest.mark.heavy
def test_compiled_equals_eager():
    patches, x, weight, bias, grad = case(2, 4, (2, 3), 8, 0.5)

    def run(x, weight, bias):
        patches._tables.clear()
        return visible_depthwise_conv(x, weight, bias, patches).relu()

    compiled = torch.compile(run, fullgraph=True)
    ours = results(compiled(x, weight, bias), x, weight, bias, grad)
    theirs = results(run(x, weight, bias), x, weight, bias, grad)
    for mine, other in nonempty(zip(ours, theirs, strict=True)):
        assert relative_error(mine, other) < 1e-6


def test_tables_are_built_once():
    patches = case(2, 4, (2, 3), 8, 0.5)[0]
    assert tile_tables(patches, 4)[0] is tile_tables(patches, 4)[0]
    assert tile_tables(patches, 2)[0] is not tile_tables(patches, 4)[0]
