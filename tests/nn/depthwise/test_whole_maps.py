"""The depthwise convolution's gradients against PyTorch's own, over shapes, types and modes."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

from convnext.nn.depthwise.layer import DepthwiseConv

SHAPES = [
    (2, 12, 9, 16),
    (1, 33, 3, 40),
    (3, 1, 1, 20),
    (5, 2, 6, 3),
    (40, 20, 20, 32),  # two groups of images, the second smaller
    (2, 90, 60, 64),  # each image a group
]


def case(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    layer = DepthwiseConv(shape[-1]).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    return layer, x, torch.randn(shape, generator=generator).to(dtype)


def pytorchs(layer, x, dtype):
    nchw = x.to(dtype).permute(0, 3, 1, 2)
    out = F.conv2d(nchw, layer.weight.to(dtype), layer.bias.to(dtype), padding=3, groups=x.shape[-1])
    return out.permute(0, 2, 3, 1)


def gradients(out, layer, x, grad):
    return torch.autograd.grad(out, [x, layer.weight, layer.bias], grad.to(out.dtype))


def relative_error(value, exact):
    return ((value.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_equal_pytorchs(shape, cpu_kernels):
    layer, x, grad = case(shape)
    out, exact = layer(x), pytorchs(layer, x, torch.float64)
    assert relative_error(out, exact) < 1e-5
    for ours, theirs in nonempty(zip(gradients(out, layer, x, grad), gradients(exact, layer, x, grad), strict=True)):
        assert relative_error(ours, theirs.double()) < 1e-5


def test_fp64_passes_gradcheck_twice():
    layer, x, _ = case((2, 3, 4, 3), torch.float64)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_bf16_weight_gradient_is_as_exact_as_pytorchs(cpu_kernels):
    layer, x, grad = case((16, 20, 20, 32))
    x, grad = x.detach().bfloat16(), grad.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).backward(grad)

    def exact(dtype):
        weight = layer.weight.detach().to(dtype).requires_grad_()
        out = F.conv2d(x.to(dtype).permute(0, 3, 1, 2), weight, padding=3, groups=32).permute(0, 2, 3, 1)
        return torch.autograd.grad(out, weight, grad.to(dtype))[0].double()

    error = relative_error(layer.weight.grad, exact(torch.float64))
    assert error < 1.1 * relative_error(exact(torch.bfloat16), exact(torch.float64))


def test_bf16_weights_have_bf16_gradients():
    layer, x, grad = case((4, 10, 10, 16), torch.bfloat16)
    ours = gradients(layer(x), layer, x, grad)
    theirs = gradients(pytorchs(layer, x, torch.float64), layer, x, grad)
    for a, b in nonempty(zip(ours, theirs, strict=True)):
        assert a.dtype == torch.bfloat16
        assert relative_error(a, b.double()) < 0.01


def test_autocast_gives_fp32_gradients_of_the_bf16_convolution():
    layer, x, grad = case((4, 10, 10, 16))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    exact = gradients(pytorchs(layer, x, torch.float64), layer, x, grad)
    for ours, theirs in nonempty(zip(gradients(out, layer, x, grad), exact, strict=True)):
        assert ours.dtype == torch.float32
        assert relative_error(ours, theirs.double()) < 0.02


def test_non_contiguous_input_and_gradient():
    layer, x, grad = case((2, 8, 8, 16))
    flipped, backwards = x.transpose(1, 2), grad.permute(0, 2, 1, 3)
    ours = gradients(layer(flipped), layer, x, backwards)
    theirs = gradients(pytorchs(layer, flipped, torch.float32), layer, x, backwards)
    for a, b in nonempty(zip(ours, theirs, strict=True)):
        assert relative_error(a, b.double()) < 1e-5


def test_frozen_weight_and_input_without_gradient():
    layer, x, grad = case((2, 6, 6, 16))
    layer.weight.requires_grad_(False)
    out = layer(x.detach())
    out.backward(grad)
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, grad.sum(dim=(0, 1, 2)))


def test_operator_keeps_to_its_description():
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 8, 6, 16, generator=generator).permute(0, 3, 1, 2) for _ in range(2))
    torch.library.opcheck(torch.ops.convnext.depthwise_weight_gradient.default, (x, grad))


def test_importing_and_running_loads_no_compiler():
    code = (
        "import sys, torch; from convnext.nn.block import Block\n"
        "b = Block(8); b(torch.randn(1, 8, 8, 8)).sum().backward()\n"
        "with torch.no_grad(): b(torch.randn(1, 8, 8, 8))\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
