"""The classifier as a user meets it: shapes, padding, options, precision, initialisation, stochastic depth."""

import math

import pytest
import torch
from peers import members
from torch import nn
from torch.nn import functional as F

from convnext import create_model, list_models
from convnext.nn.block import DropPath
from convnext.nn.norm import GRN
from convnext.variants import VARIANTS

ATTO = "convnextv2_atto"
V1 = "convnext_atto"


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(name, **options):
    """A model whose GRN and LayerScale do something, as trained ones do."""
    model = create_model(name, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".grn." in key or key.endswith(".gamma"):
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
            elif parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5)
    return model


@pytest.mark.parametrize("name", members(list_models()))
def test_shapes_of_every_model(name):
    dims = VARIANTS[name].dims
    with torch.device("meta"):
        model, x = create_model(name, num_classes=7), torch.zeros(2, 3, 64, 96)
        assert model(x).shape == (2, 7)
        assert model.embed(x).shape == (2, dims[-1])
        stride = 4 if VARIANTS[name].is_hierarchical else 16
        maps = [(2, dim, (64 // stride) >> i, (96 // stride) >> i) for i, dim in enumerate(dims)]
        assert [m.shape for m in model.pyramid(x)] == maps


@pytest.mark.parametrize("name", [ATTO, V1])
def test_parameter_names_are_the_official_ones(name):
    with torch.device("meta"):
        keys = set(create_model(name).state_dict())
    of_version = {"stages.0.1.grn.gamma", "stages.0.1.grn.beta"} if name == ATTO else {"stages.0.1.gamma"}
    layers = ["dwconv", "norm", "pwconv1", "pwconv2"]
    block = {f"stages.0.1.{layer}.{p}" for layer in layers for p in ("weight", "bias")} | of_version
    assert {key for key in keys if key.startswith("stages.0.1.")} == block
    others = {f"downsample_layers.{i}.{j}" for i in range(4) for j in range(2)} | {"norm", "head"}
    assert {key for key in keys if not key.startswith("stages")} == {
        f"{o}.{p}" for o in others for p in ("weight", "bias")
    }


def test_the_embedding_is_what_the_head_sees():
    model = filled(ATTO, num_classes=5).eval()
    x = images(2, 3, 64, 64)
    torch.testing.assert_close(model(x), model.head(model.embed(x)))
    pooled = F.layer_norm(model.pyramid(x)[3].mean((2, 3)), (320,), model.norm.weight, model.norm.bias, 1e-6)
    torch.testing.assert_close(model.embed(x), pooled)
    headless = create_model(ATTO, num_classes=0).eval()
    headless.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("head")})
    torch.testing.assert_close(headless(x), model.embed(x))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("size", [(33, 64), (50, 70), (1, 1)])
def test_other_sizes_are_padded_with_zeros_at_the_right_and_bottom(size, grad):
    model = filled(ATTO, num_classes=5).eval()
    x = images(2, 3, *size)
    height, width = (32 * math.ceil(side / 32) for side in size)
    with torch.set_grad_enabled(grad):
        padded = F.pad(x, (0, width - size[1], 0, height - size[0]))
        torch.testing.assert_close(model(x), model(padded))
        assert model.pyramid(x)[3].shape == (2, 320, height // 32, width // 32)


@pytest.mark.parametrize("stem_patch", [1, 2, 4])
@pytest.mark.parametrize("in_chans", [1, 4])
def test_small_images_and_other_channels(stem_patch, in_chans):
    model = create_model(ATTO, num_classes=3, in_chans=in_chans, stem_patch=stem_patch).eval()
    x = images(2, in_chans, 32, 32)
    assert model(x).shape == (2, 3)
    assert [m.shape[-1] for m in model.pyramid(x)] == [32 // (stem_patch << i) for i in range(4)]
    smallest = 8 * stem_patch
    assert model.pyramid(images(1, in_chans, smallest + 1, smallest))[3].shape[-2:] == (2, 1)


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match=r"expected images \[N, 3, H, W\], got \[1, 1, 32, 32\]"):
        create_model(ATTO)(images(1, 1, 32, 32))


@pytest.mark.parametrize("name", [ATTO, V1])
@pytest.mark.parametrize("grad", [True, False])
def test_an_image_does_not_depend_on_its_batch(name, grad):
    model = filled(name, num_classes=5).eval()
    x = images(3, 3, 64, 64)
    x[1] *= 20
    with torch.set_grad_enabled(grad):
        together, alone = model(x), torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [ATTO, V1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_inference_gives_what_training_does(name, layout):
    model = filled(name, num_classes=5)  # without drop path, training is the plain path
    x = images(2, 3, 64, 96).to(memory_format=layout)
    expected = model.train()(x)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            torch.testing.assert_close(model.eval()(x), expected.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("how", ["bf16 autocast", "fp16 autocast", torch.bfloat16, torch.float16])
def test_short_types_stay_finite_with_large_values_inside_grn(how, grad):
    model = filled(ATTO, num_classes=5).eval()
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        for block in (block for stage in model.stages for block in stage):
            block.norm.weight.mul_(250)  # LayerNorm's output, and with it GRN's input, up to 1e3
    peaks = []
    for module in model.modules():
        if isinstance(module, GRN):
            module.register_forward_pre_hook(lambda _, inputs: peaks.append(inputs[0].abs().max().item()))
    model.train()(x)
    assert 500 < max(peaks) < 5000
    for block in (block for stage in model.stages for block in stage):
        with torch.no_grad():
            block.pwconv2.weight.div_(250)
    expected = model(x).detach()
    with torch.set_grad_enabled(grad):
        if isinstance(how, str):
            with torch.autocast("cpu", torch.bfloat16 if how.startswith("bf16") else torch.float16):
                out = model.eval()(x)
        else:
            out = model.to(how).eval()(x.to(how))
    assert out.isfinite().all()
    torch.testing.assert_close(out.float(), expected, atol=0.1 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", [ATTO, V1])
def test_checkpointing_gives_the_same_gradients(name):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = create_model(name, num_classes=5, checkpointing=checkpointing, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        model(images(2, 3, 64, 64)).square().sum().backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, msg=lambda m, key=key: f"{key}: {m}")


def test_checkpointing_stores_less():
    def stored(checkpointing):
        sizes = []
        model = create_model(ATTO, checkpointing=checkpointing).train()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model(images(1, 3, 64, 64))
        return sum(sizes)

    assert stored(True) < 0.5 * stored(False)


def test_drop_path_rises_linearly_from_zero():
    model = create_model(ATTO, drop_path_rate=0.22)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.02 * i for i in range(12)])


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    drop = DropPath(0.25).train()
    torch.manual_seed(0)
    out = drop(torch.ones(4000, 2, 2, 3)).flatten(1)
    kept = out[:, 0] > 0
    assert torch.equal(out, kept[:, None] * torch.full_like(out, 1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    x = images(4, 2, 2, 3)
    assert torch.equal(drop.eval()(x), x)
    assert torch.equal(DropPath(0.0).train()(x), x)


def test_drop_path_acts_in_training_only():
    model = filled(ATTO, num_classes=5, drop_path_rate=0.5)
    x = images(1, 3, 64, 64).expand(6, -1, -1, -1)
    torch.manual_seed(0)
    assert not torch.allclose(*model.train()(x)[:2], atol=1e-3)  # each image draws for itself
    out = model.eval()(x)
    torch.testing.assert_close(out, out[:1].expand(6, -1))
    assert torch.equal(out, model(x))


@pytest.mark.parametrize("name", [ATTO, V1])
def test_initialisation(name):
    torch.manual_seed(0)
    model = create_model(name)
    for key, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), key
            assert module.weight.mean().item() == pytest.approx(0, abs=0.002), key
            assert not module.bias.any(), key
        elif isinstance(module, nn.LayerNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), key
            assert not module.bias.any(), key
        elif isinstance(module, GRN):
            assert not module.gamma.any(), key
            assert not module.beta.any(), key
    gammas = [p for key, p in model.named_parameters() if key.endswith(".gamma") and ".grn." not in key]
    assert len(gammas) == (12 if name == V1 else 0)
    assert all(torch.equal(gamma, torch.full_like(gamma, 1e-6)) for gamma in gammas)


def test_options_of_initialisation():
    model = create_model(ATTO, head_init_scale=0.001)
    assert model.head.weight.std().item() == pytest.approx(2e-5, rel=0.1)
    names = dict(create_model(V1, layer_scale_init=0).named_parameters())
    assert not [name for name in names if name.endswith(".gamma")]
    assert create_model(V1, layer_scale_init=0.5).stages[3][1].gamma[0].item() == 0.5


def test_all_parameters_get_gradients():
    model = filled(ATTO, num_classes=5).train()
    model(images(2, 3, 64, 64)).square().sum().backward()
    assert not [key for key, parameter in model.named_parameters() if not parameter.grad.any()]
