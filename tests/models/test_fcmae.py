"""FCMAE: the visible-patch encoder against the masked-dense one and against plain loops; decoder, loss, faults."""

import math

import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

from convnext import create_fcmae, create_model, list_models, load_weights, save_weights
from convnext.models.masking import random_patches
from convnext.nn.masked_dense import forward_masked_dense
from convnext.nn.visible_patches import VisiblePatches


def filled(model, scale=0.5):
    """The model with random values wherever training would put some: GRN and LayerScale start at nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".bias", "gamma", "beta", "mask_token")):
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def build(name="convnextv2_atto", **options):
    torch.manual_seed(0)
    return filled(create_fcmae(name, **options))


def images_and_mask(model, size=(64, 64), n=2, ratio=0.6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, model.in_chans, *size, generator=generator)
    grid = (size[0] // model.patch_size, size[1] // model.patch_size)
    return images, random_patches(n, grid, ratio, generator=generator).mask()


def relative_error(value, exact):
    return ((value.double() - exact.double()).norm() / exact.double().norm().clamp(min=1e-30)).item()


def masked_dense(model):
    """The model's `encode` by the reference method: convolve whole maps, multiply by the mask."""
    return lambda images, mask: forward_masked_dense(model.encoder, images, model.patches(images, mask)).permute(
        0, 3, 1, 2
    )


def outputs_and_gradients(encode, model, images, mask):
    images = images.clone().requires_grad_()
    out = encode(images, mask)
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    parameters = dict(model.encoder.named_parameters())
    gradients = torch.autograd.grad(out, [images, *parameters.values()], probe)
    return out, dict(zip(["images", *parameters], gradients, strict=True))


CASES = [
    # model, size, stem, patch, channels, ratio
    ("convnextv2_atto", (224, 224), 4, 32, 3, 0.6),
    ("convnextv2_atto", (128, 192), 4, 32, 1, 0.25),
    ("convnextv2_atto", (64, 64), 4, 32, 8, 0.5),
    ("convnextv2_atto", (128, 128), 4, 64, 3, 0.5),
    ("convnextv2_atto", (64, 96), 2, 16, 3, 0.75),
    ("convnextv2_atto", (32, 48), 1, 8, 3, 0.9),
    ("convnextv2_tiny", (128, 192), 4, 32, 3, 0.6),
    ("convnext_atto", (96, 64), 2, 16, 1, 0.6),
    ("convnext_atto", (128, 128), 4, 32, 3, 0.9),
    ("convnext_atto_ols", (128, 96), 4, 32, 3, 0.6),  # an overlapping stem sees its neighbours
    ("convnext_zepto_rms_ols", (96, 128), 4, 32, 3, 0.5),
    ("convnext_atto_rms", (96, 96), 4, 32, 3, 0.5),
    ("convnext_isotropic_small", (96, 64), 4, 32, 3, 0.5),
]


@pytest.mark.parametrize(("name", "size", "stem", "patch", "channels", "ratio"), CASES)
def test_visible_encoder_equals_masked_dense(name, size, stem, patch, channels, ratio):
    model = build(name, in_chans=channels, stem_patch=stem, patch_size=patch)
    images, mask = images_and_mask(model, size, ratio=ratio)
    ours, gradients = outputs_and_gradients(model.encode, model, images, mask)
    theirs, expected = outputs_and_gradients(masked_dense(model), model, images, mask)
    stride = model.encoder.total_stride
    assert ours.shape == (2, model.encoder.dims[-1], size[0] // stride, size[1] // stride)
    assert relative_error(ours, theirs) < 1e-5
    for key, gradient in nonempty(gradients.items()):
        assert relative_error(gradient, expected[key]) < 1e-5, key


@pytest.mark.parametrize(("name", "size", "stem", "patch", "channels", "ratio"), [CASES[2], CASES[4], CASES[7]])
def test_visible_encoder_equals_masked_dense_in_fp64(name, size, stem, patch, channels, ratio):
    model = build(name, in_chans=channels, stem_patch=stem, patch_size=patch).double()
    images, mask = images_and_mask(model, size, ratio=ratio)
    ours, gradients = outputs_and_gradients(model.encode, model, images.double(), mask)
    theirs, expected = outputs_and_gradients(masked_dense(model), model, images.double(), mask)
    assert relative_error(ours, theirs) < 1e-10
    for key, gradient in nonempty(gradients.items()):
        assert relative_error(gradient, expected[key]) < 1e-10, key


def loop_encoder(encoder, images, mask):
    """The encoder of one image after another, position by position, from the paper's words alone (fp64)."""
    h, w = mask.shape[1:]
    results = []
    for image, hidden in zip(images, mask, strict=True):
        x, side = image.permute(1, 2, 0), encoder.stem_patch
        for i, stage in enumerate(encoder.stages):
            first, second = encoder.downsample_layers[i]
            conv, norm = (first, second) if i == 0 else (second, first)
            if i:
                x, side = F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, 1e-6), 2
            x = F.conv2d(x.permute(2, 0, 1)[None], conv.weight, conv.bias, stride=side)[0].permute(1, 2, 0)
            if not i:
                x = F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, 1e-6)
            rows, columns = x.shape[:2]
            seen = [(r, c) for r in range(rows) for c in range(columns) if not hidden[r * h // rows, c * w // columns]]
            for block in stage.children():
                after = []
                for r, c in seen:
                    total = block.dwconv.bias.clone()
                    for rr, cc in seen:
                        if abs(rr - r) <= 3 and abs(cc - c) <= 3:
                            total += x[rr, cc] * block.dwconv.weight[:, 0, rr - r + 3, cc - c + 3]
                    y = F.layer_norm(total, total.shape, block.norm.weight, block.norm.bias, 1e-6)
                    after.append(F.gelu(block.pwconv1(y)))
                wide = torch.stack(after)
                gx = wide.square().sum(0).sqrt()
                wide = block.grn.gamma[0, 0, 0] * (wide * gx / (gx.mean() + 1e-6)) + block.grn.beta[0, 0, 0] + wide
                x = x.clone()
                for (r, c), branch in zip(seen, block.pwconv2(wide), strict=True):
                    x[r, c] = x[r, c] + branch
        out = torch.zeros_like(x)
        for r, c in seen:
            out[r, c] = x[r, c]
        results.append(out.permute(2, 0, 1))
    return torch.stack(results)


def test_visible_encoder_equals_a_brute_force_loop():
    model = build(in_chans=1, stem_patch=2, patch_size=16).double()
    images, mask = images_and_mask(model, (48, 32), n=2, ratio=0.5)
    with torch.no_grad():
        exact = loop_encoder(model.encoder, images.double(), mask)
        assert relative_error(model.encode(images.double(), mask), exact) < 1e-12
        assert relative_error(masked_dense(model)(images.double(), mask), exact) < 1e-12


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
def test_hidden_pixels_change_not_one_bit(name):
    model = build(name)
    images, mask = images_and_mask(model, (128, 96))
    hidden = F.interpolate(mask[:, None].float(), scale_factor=32).bool()
    other = torch.where(hidden, torch.full_like(images, 1e4), images)
    with torch.no_grad():
        assert torch.equal(model.encode(images, mask), model.encode(other, mask))


def test_images_do_not_see_each_other():
    model = build()
    images, mask = images_and_mask(model, (96, 96), n=3)
    other = images.clone()
    other[1:] = torch.randn_like(other[1:])
    other_mask = mask.clone()
    other_mask[1:] = mask[1:].flip(1)
    with torch.no_grad():
        assert torch.equal(model.encode(images, mask)[0], model.encode(other, other_mask)[0])


def test_zero_where_hidden():
    model = build(patch_size=64)
    images, mask = images_and_mask(model, (128, 192))
    out = model.encode(images, mask)
    hidden = F.interpolate(mask[:, None].float(), scale_factor=2).bool().expand(out.shape)
    assert (out[hidden] == 0).all()
    assert (out[~hidden] != 0).all()


@pytest.mark.parametrize(("stem", "patch", "channels"), [(4, 32, 3), (4, 64, 1), (2, 16, 8)])
def test_loss_is_the_error_on_hidden_patches_alone(stem, patch, channels):
    model = build(in_chans=channels, stem_patch=stem, patch_size=patch)
    images, mask = images_and_mask(model, (128, 128), ratio=0.5)
    loss, prediction, returned = model(images, mask)
    assert torch.equal(returned, mask)
    cells = images.unfold(2, patch, patch).unfold(3, patch, patch)  # [N, C, h, w, patch, patch]
    pixels = cells.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    normal = (pixels - pixels.mean(-1, keepdim=True)) / (pixels.var(-1, keepdim=True) + 1e-6).sqrt()
    assert prediction.shape == pixels.shape
    expected = (prediction - normal)[mask.flatten(1)].square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (prediction[~mask.flatten(1)] == 0).all()


def test_a_prediction_lies_where_its_pixels_lie():
    model = build(patch_size=64, norm_pix_loss=False)
    images, mask = images_and_mask(model, (128, 192))
    truth = model.target(images, VisiblePatches.from_mask(~mask))
    model.decode = lambda features, patches, hidden: truth
    rebuilt, hidden = model.reconstruct(images, mask)
    assert torch.equal(hidden, mask)
    assert torch.allclose(rebuilt, images)
    # And the decoder's own order: a position's output is the square of pixels it covers.
    stride = model.encoder.total_stride
    model = build(patch_size=64)
    model.pred.weight.data.zero_()
    model.pred.bias.data.copy_(torch.arange(stride * stride * 3.0))
    prediction = model(images, mask)[1]
    square = torch.arange(stride * stride * 3.0).view(stride, stride, 3)
    assert torch.equal(prediction[mask.flatten(1)][0].view(64, 64, 3), square.repeat(2, 2, 1))


def test_reconstruction_puts_mean_and_deviation_back():
    model = build()
    images, mask = images_and_mask(model, (64, 96))
    truth = model.target(images, VisiblePatches.from_mask(~mask))
    model.decode = lambda features, patches, hidden: truth
    rebuilt, _ = model.reconstruct(5 + 3 * images, mask)
    assert torch.allclose(rebuilt, 5 + 3 * images, atol=1e-3)


def test_initialisation_happens_once_and_small():
    model = create_fcmae("convnextv2_atto")
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim > 1:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name
    assert model.mask_token.std().item() == pytest.approx(0.02, rel=0.2)
    assert model(torch.randn(2, 3, 64, 64))[0].item() == pytest.approx(1, rel=0.1)


def test_official_names():
    names = set(create_fcmae("convnextv2_atto", decoder_depth=2).state_dict())
    assert {
        "mask_token",
        "proj.weight",
        "decoder.1.grn.gamma",
        "pred.bias",
        "encoder.stages.0.0.dwconv.weight",
    } <= names


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked_dense", [False, True])
def test_half_precision_is_finite_and_near(dtype, masked_dense):
    model = build(masked_dense=masked_dense)
    images, mask = images_and_mask(model, (128, 128))
    exact = model(images, mask)[0]
    with torch.autocast("cpu", dtype):
        loss = model(images, mask)[0]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", list_models()[:5])
def test_sizes_take_a_step(name):
    model = create_fcmae(name)
    loss, prediction, _ = model(torch.randn(1, 3, 64, 96))
    loss.backward()
    assert prediction.shape == (1, 6, 32 * 32 * 3)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.encoder.stages[3][0].dwconv.weight.grad is not None


def test_weights_go_into_a_whole_model_and_into_an_encoder(tmp_path):
    model, other = build(), create_fcmae("convnextv2_atto")
    save_weights(model, tmp_path / "a.safetensors")
    load_weights(other, tmp_path / "a.safetensors")
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in other.state_dict().items())
    classifier = create_model("convnextv2_atto", num_classes=0)
    load_weights(classifier, tmp_path / "a.safetensors")
    assert torch.equal(classifier.stages[0][0].dwconv.weight, model.encoder.stages[0][0].dwconv.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 48}, "patch_size must be a multiple of the network's stride 32, not 48"),
        ({"patch_size": 16}, "patch_size must be a multiple"),
        ({"mask_ratio": 0.0}, "mask_ratio must lie between 0 and 1, not 0.0"),
        ({"mask_ratio": 1.5}, "mask_ratio must lie between 0 and 1"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_fcmae("convnextv2_atto", **options)


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((1, 3, 100, 64), None, r"100×64 pixels do not divide into patches of 32; 96×64 or 128×96 would"),
        ((1, 3, 8, 8), None, r"8×8 pixels do not divide into patches of 32; 32×32"),
        ((1, 4, 64, 64), None, r"expected images \[N, 3, H, W\], got \[1, 4, 64, 64\]"),
        ((1, 3, 32, 32), None, r"leaves none of 1×1 patches"),
        ((2, 3, 64, 64), torch.zeros(2, 4, dtype=torch.bool), r"expected a mask \[2, 2, 2\] for these images"),
        ((1, 3, 64, 64), torch.zeros(1, 2, 2), r"expected a mask bool"),
        ((1, 3, 64, 64), torch.ones(1, 2, 2, dtype=torch.bool), r"at least 1"),
        ((1, 3, 64, 64), torch.zeros(1, 2, 2, dtype=torch.bool), r"hides nothing"),
        ((2, 3, 64, 64), torch.eye(4).view(2, 2, 4)[:, :, :2] > 0, r"same number of patches"),
    ],
)
def test_images_and_masks_that_cannot_be_are_refused(shape, mask, message):
    with pytest.raises(ValueError, match=message):
        create_fcmae("convnextv2_atto")(torch.zeros(shape), mask)


def test_random_masks_differ_between_images():
    model = build()
    torch.manual_seed(0)
    masks = model(torch.randn(4, 3, 224, 224))[2]
    assert masks.shape == (4, 7, 7)
    assert (masks.flatten(1).sum(1) == 30).all()
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 4
    assert math.isclose(masks.float().mean(), 30 / 49, rel_tol=1e-6)
