"""The block's pointwise part in groups of images against the same layers one after the other."""

import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

from convnext.nn import pointwise
from convnext.nn.block import Block

SHAPES = [
    (3, 5, 4, 16),
    (1, 1, 1, 8),
    (7, 3, 4, 2, 2, 24),  # visible patches
    (40, 7, 7, 64),  # two groups of images
    (2, 130, 70, 32),  # one image a group
    (1, 400, 90, 40),  # an image of several chunks
]


def filled_block(dim, version):
    torch.manual_seed(0)
    block = Block(dim, version=version, layer_scale_init=0.5)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    return block


def layer_by_layer(block, x):
    x = F.gelu(F.linear(x, block.pwconv1.weight, block.pwconv1.bias))
    if block.grn is not None:
        norm = torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim - 1)), keepdim=True)
        gamma, beta = block.grn.gamma.flatten(), block.grn.beta.flatten()
        x = gamma * x * norm / (norm.mean(dim=-1, keepdim=True) + 1e-6) + beta + x
    return F.linear(x, block.pwconv2.weight, block.pwconv2.bias)


def grouped(block, x):
    gamma, beta = (None, None) if block.grn is None else (block.grn.gamma, block.grn.beta)
    first, second = block.pwconv1, block.pwconv2
    return pointwise.mlp(x, first.weight, first.bias, gamma, beta, second.weight, second.bias)


def parameters(block):
    layers = (block.pwconv1, block.grn, block.pwconv2)
    return [parameter for layer in layers if layer is not None for parameter in layer.parameters()]


def relative_error(value, exact):
    return ((value.double() - exact.double()).abs().max() / exact.double().abs().max()).item()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_equal_the_layers(shape, version):
    block = filled_block(shape[-1], version)
    x = torch.randn(shape, requires_grad=True)
    grad = torch.randn(shape)
    ours, theirs = grouped(block, x), layer_by_layer(block, x)
    assert relative_error(ours, theirs) < 1e-5
    wrt = [x, *parameters(block)]
    for a, b in nonempty(
        zip(torch.autograd.grad(ours, wrt, grad), torch.autograd.grad(theirs, wrt, grad), strict=True)
    ):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_inference_equals_training_and_changes_nothing(shape, version):
    block = filled_block(shape[-1], version)
    x = torch.randn(shape)
    before = [t.clone() for t in (x, *block.parameters())]
    trained = grouped(block, x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert relative_error(grouped(block, x), trained.detach()) < 1e-6
            assert relative_error(block.mlp(x), trained.detach()) < 1e-5
    for after, earlier in zip((x, *block.parameters()), before, strict=True):
        assert torch.equal(after, earlier)


def test_outputs_outlive_later_calls():
    block = filled_block(16, 2)
    x = torch.randn(2, 9, 9, 16)
    with torch.inference_mode():
        first = block.mlp(x)
        copy = first.clone()
        block.mlp(x + 1)
    assert torch.equal(first, copy)


def test_training_after_inference_mode():
    block = filled_block(16, 2)
    x = torch.randn(2, 60, 60, 16)
    with torch.inference_mode():
        block.mlp(x)
    block.mlp(x).sum().backward()
    assert block.pwconv1.weight.grad.isfinite().all()


def test_inference_sees_parameters_changed_in_place():
    block = filled_block(16, 2)
    x = torch.randn(2, 9, 9, 16)
    with torch.no_grad():
        block.mlp(x)
        for parameter in block.parameters():
            parameter.mul_(0.5)
        assert relative_error(block.mlp(x), layer_by_layer(block, x)) < 1e-5


def test_a_dead_channel_and_an_all_zero_image_have_finite_gradients():
    block = filled_block(8, 2)
    with torch.no_grad():
        block.pwconv1.weight[0] = 0
        block.pwconv1.bias.zero_()
    x = torch.randn(3, 4, 4, 8)
    x[1] = 0
    x.requires_grad_()
    block.mlp(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in nonempty(parameters(block)))


def test_autocast_is_close_and_keeps_fp32_gradients():
    block = filled_block(32, 2)
    x = torch.randn(4, 96, 96, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert pointwise.takes_operator(x, block.pwconv1, block.grn, block.pwconv2)
        out = block.mlp(x)
    assert out.dtype == torch.bfloat16
    exact = layer_by_layer(block, x)
    assert relative_error(out, exact) < 0.02
    grad = torch.randn_like(exact)
    wrt = [x, *parameters(block)]
    ours, theirs = torch.autograd.grad(out, wrt, grad.bfloat16()), torch.autograd.grad(exact, wrt, grad)
    for a, b in nonempty(zip(ours, theirs, strict=True)):
        assert a.dtype == torch.float32
        assert ((a - b).norm() / b.norm()).item() < 0.02


def test_large_activations_do_not_overflow_in_bf16():
    block = filled_block(8, 2).bfloat16()
    x = torch.full((1, 400, 400, 8), 3e4, dtype=torch.bfloat16)
    with torch.no_grad():
        assert pointwise.takes_operator(x, block.pwconv1, block.grn, block.pwconv2)
        assert block.mlp(x).isfinite().all()


def test_hooks_on_the_layers_inside_are_called():
    block = filled_block(8, 2)
    seen = []
    handle = block.grn.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    x = torch.randn(2, 5, 5, 8)
    with torch.no_grad():
        hooked = block.mlp(x)
        handle.remove()
        assert seen == [(2, 5, 5, 32)]
        assert relative_error(hooked, block.mlp(x)) < 1e-5


def test_a_layer_exchanged_for_another_kind_is_run():
    block = filled_block(8, 2)
    block.pwconv1 = torch.nn.Sequential(block.pwconv1, torch.nn.Dropout(1.0))
    with torch.no_grad():
        out = block.mlp(torch.randn(1, 2, 2, 8))
    beta = block.grn.beta.flatten()
    torch.testing.assert_close(out, F.linear(beta, block.pwconv2.weight, block.pwconv2.bias).expand(1, 2, 2, 8))


@pytest.mark.parametrize("version", [1, 2])
def test_operators_keep_to_their_description(version):
    block = filled_block(8, version)
    gamma, beta = (None, None) if block.grn is None else (block.grn.gamma.flatten(), block.grn.beta.flatten())
    w1, b1, gamma, beta, w2, b2 = (
        t if t is None else t.detach()
        for t in (block.pwconv1.weight, block.pwconv1.bias, gamma, beta, block.pwconv2.weight, block.pwconv2.bias)
    )
    x = torch.randn(2, 9, 8)
    forward, backward = torch.ops.convnext.mlp_forward.default, torch.ops.convnext.mlp_backward.default
    for keep in (True, False):
        torch.library.opcheck(forward, (x, w1, b1, gamma, beta, w2, b2, keep))
    _, hidden, norms = forward(x, w1, b1, gamma, beta, w2, b2, True)
    if gamma is not None:
        torch.library.opcheck(backward, (torch.randn(2, 9, 8), x, hidden, norms, w1, gamma, beta, w2))


@pytest.mark.heavy
def test_compiled_whole_block_equals_eager_in_both_modes():
    block = filled_block(16, 2)
    x = torch.randn(2, 130, 130, 16)  # beyond the cache, so that the operators stand in the compiled graph
    compiled = torch.compile(block, fullgraph=True)
    with torch.no_grad():
        assert relative_error(compiled(x), block(x)) < 1e-5
    wrt = list(block.parameters())
    ours = torch.autograd.grad(compiled(x).square().mean(), wrt)
    theirs = torch.autograd.grad(block(x).square().mean(), wrt)
    for a, b in nonempty(zip(ours, theirs, strict=True)):
        assert relative_error(a, b) < 1e-4


def test_exported_program_holds_standard_operators_only():
    block = filled_block(8, 2).eval()
    program = torch.export.export(block, (torch.randn(1, 4, 4, 8),))
    assert not [node for node in program.graph.nodes if "convnext" in str(node.target)]


def test_the_operator_stands_in_the_compiled_graph():
    """Up to torch 2.11 the compiler calls itself an exporter, which is to see the layers."""
    called = set()

    def look(graph, inputs):
        for module in graph.modules():
            called.update(str(node.target) for node in getattr(module, "graph", torch.fx.Graph()).nodes)
        return graph.forward

    block = filled_block(16, 2)
    torch.compile(block, fullgraph=True, backend=look)(torch.randn(2, 130, 130, 16, requires_grad=True))
    assert any("mlp_forward" in name for name in called)
