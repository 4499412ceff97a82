"""GRN and LayerNorm: the formula, its independence of the batch, and large values in short types."""

import pytest
import torch
from torch import nn

from convnext.nn.norm import GRN, LayerNorm


def filled_grn(dim, generator):
    grn = GRN(dim)
    with torch.no_grad():
        grn.gamma.copy_(torch.randn(1, 1, 1, dim, generator=generator))
        grn.beta.copy_(torch.randn(1, 1, 1, dim, generator=generator))
    return grn


def grn_by_loops(x, gamma, beta):
    """REFERENCE's formula, one image and one channel at a time, in fp64."""
    x, gamma, beta = x.double(), gamma.double().flatten(), beta.double().flatten()
    out = torch.empty_like(x)
    for n in range(x.shape[0]):
        norms = [x[n, ..., c].pow(2).sum().sqrt() for c in range(x.shape[-1])]
        mean = sum(norms) / len(norms)
        for c in range(x.shape[-1]):
            out[n, ..., c] = gamma[c] * (x[n, ..., c] * (norms[c] / (mean + 1e-6))) + beta[c] + x[n, ..., c]
    return out


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 3, 12), (1, 1, 1, 4), (3, 4, 2, 2, 8)])
def test_grn_is_the_formula(shape, grad):
    generator = torch.Generator().manual_seed(0)
    grn, x = filled_grn(shape[-1], generator), torch.randn(shape, generator=generator)
    if len(shape) == 5:  # visible patches [N, V, p, p, C]
        x[:, 0] *= 10
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(grn(x).double(), grn_by_loops(x, grn.gamma, grn.beta).detach(), atol=1e-5, rtol=1e-5)


def test_grn_gradients_are_the_formulas():
    generator = torch.Generator().manual_seed(0)
    grn = filled_grn(3, generator)
    x = torch.randn(2, 2, 3, 3, generator=generator, requires_grad=True)
    got = torch.autograd.grad(grn(x).sin().sum(), [x, grn.gamma, grn.beta])
    expected = torch.autograd.grad(grn_by_loops(x, grn.gamma, grn.beta).sin().sum(), [x, grn.gamma, grn.beta])
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_grn_of_an_image_does_not_depend_on_its_batch():
    generator = torch.Generator().manual_seed(0)
    grn, x = filled_grn(8, generator), torch.randn(3, 4, 4, 8, generator=generator)
    x[1] *= 100
    alone = torch.cat([grn(image[None]) for image in x])
    torch.testing.assert_close(grn(x), alone)


def test_a_fresh_grn_is_the_identity():
    x = torch.randn(2, 3, 3, 8)
    assert torch.equal(GRN(8)(x), x)


def test_grn_of_zeros_is_beta():
    grn = filled_grn(8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(grn(torch.zeros(1, 2, 2, 8)), grn.beta.expand(1, 2, 2, 8))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("how", [torch.float16, torch.bfloat16, "fp16 autocast", "bf16 autocast"])
def test_grn_of_values_up_to_1000_does_not_overflow(how, grad):
    generator = torch.Generator().manual_seed(0)
    grn = filled_grn(16, generator)
    x = (torch.rand(2, 56, 56, 16, generator=generator) * 2 - 1) * 1000
    exact = grn_by_loops(x, grn.gamma, grn.beta).detach()
    if isinstance(how, str):
        dtype = torch.float16 if how.startswith("fp16") else torch.bfloat16
        with torch.autocast("cpu", dtype), torch.set_grad_enabled(grad):
            out = grn(x.to(dtype))
    else:
        dtype = how
        with torch.set_grad_enabled(grad):
            out = grn.to(dtype)(x.to(dtype))
    assert out.isfinite().all()
    assert (out.double() - exact).abs().max() < (8 if dtype == torch.float16 else 64)


def test_layer_norm_is_torchs_with_the_papers_eps():
    norm, reference = LayerNorm(8), nn.LayerNorm(8, eps=1e-6)
    x = torch.randn(2, 3, 3, 8) * 1e-3  # small enough for eps to matter
    torch.testing.assert_close(norm(x), reference(x))
    assert not torch.allclose(norm(x), nn.LayerNorm(8)(x), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_norm_of_large_values_in_short_types(dtype):
    x = (torch.randn(2, 4, 4, 96) * 1000).to(dtype)
    expected = LayerNorm(96)(x.float())
    torch.testing.assert_close(LayerNorm(96).to(dtype)(x).float(), expected, atol=0.05, rtol=0.05)


def test_grn_takes_double_precision():
    grn = filled_grn(8, torch.Generator().manual_seed(0)).double()
    x = torch.randn(2, 3, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(grn(x), grn_by_loops(x, grn.gamma, grn.beta), atol=1e-12, rtol=1e-12)
