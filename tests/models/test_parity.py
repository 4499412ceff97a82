"""The same numbers as timm and transformers, weights copied over: logits and maps, with and without gradients."""

import pytest
import timm
import torch
import transformers
from peers import members, randomise

from convnext import create_model
from convnext.variants import VARIANTS
from convnext.weights.layouts import from_official

V2 = ["convnextv2_atto", "convnextv2_femto", "convnextv2_pico", "convnextv2_nano", "convnextv2_tiny", "convnextv2_base"]
NAMES = [*V2, "convnext_tiny", "convnext_base"]
SIZES = [(224, 224), (256, 320)]


def images(size):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))


def assert_same(own, foreign):
    """At most 1e-4 apart, and at most 1e-5 of the largest value."""
    assert own.shape == foreign.shape
    worst, largest = (own - foreign).abs().max().item(), foreign.abs().max().item()
    assert 0.1 < largest < 100  # neither vanished nor exploded: the comparison means something
    assert worst <= min(1e-4, 1e-5 * largest), f"{worst:.2e} of {largest:.2e}"


@pytest.fixture(scope="module", params=members(NAMES))
def own(request):
    """Name, model, and for each size its (logits, maps) without and with gradients: inference may go another way."""
    name = request.param
    model = randomise(create_model(name)).eval()
    outputs = {}
    for size in SIZES[1:] if VARIANTS[name].parameters > 80e6 else SIZES:
        with torch.inference_mode():
            plain = model(images(size)), model.pyramid(images(size))
        logits, maps = model(images(size)), model.pyramid(images(size))
        assert logits.requires_grad
        outputs[size] = [plain, (logits.detach(), [x.detach() for x in maps])]
    return name, model, outputs


def check(outputs, reference):
    for size, paths in outputs.items():
        with torch.inference_mode():
            expected_logits, expected_maps = reference(images(size))
        for logits, maps in paths:
            assert_same(logits, expected_logits)
            for got, expected in zip(maps, expected_maps, strict=True):
                assert_same(got, expected)


def test_timm(own):
    name, model, outputs = own
    foreign = timm.create_model(name).eval()
    foreign.load_state_dict(from_official(model.state_dict(), "timm"))

    def reference(x):
        final, maps = foreign.forward_intermediates(x)
        return foreign.forward_head(final), maps

    check(outputs, reference)


def test_transformers(own):
    name, model, outputs = own
    variant = VARIANTS[name]
    kind = "ConvNextV2" if variant.version == 2 else "ConvNext"
    make_config = getattr(transformers, f"{kind}Config")
    config = make_config(hidden_sizes=list(variant.dims), depths=list(variant.depths), num_labels=1000)
    foreign = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    foreign.load_state_dict(from_official(model.state_dict(), "hf"))

    def reference(x):
        out = foreign(x, output_hidden_states=True)
        return out.logits, out.hidden_states[1:]  # the first is the stem's

    check(outputs, reference)


def test_names_that_timm_users_type() -> None:
    ours = randomise(create_model("convnextv2_atto")).eval()
    theirs = timm.create_model("convnextv2_atto").eval()
    theirs.load_state_dict(from_official(ours.state_dict(), "timm"))
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        features = ours.forward_features(images)
        torch.testing.assert_close(features, theirs.forward_features(images), atol=1e-4, rtol=1e-4)
        assert torch.equal(ours.forward_head(features), ours(images))
        for pre_logits in (False, True):
            expected = theirs.forward_head(features, pre_logits=pre_logits)
            torch.testing.assert_close(ours.forward_head(features, pre_logits), expected, atol=1e-4, rtol=1e-4)
        for indices in (None, 2, [1, 3]):
            last, found = ours.forward_intermediates(images, indices)
            _, expected = theirs.forward_intermediates(images, indices)
            assert last.shape == features.shape
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert ours.num_features == theirs.num_features
    ours.reset_classifier(3)
    assert ours(images).shape == (2, 3)
    ours.reset_classifier(0)
    assert torch.equal(ours(images), ours.embed(images))
    ours.set_grad_checkpointing()
    assert ours.checkpointing
