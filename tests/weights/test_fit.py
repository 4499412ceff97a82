"""Weights onto models: what must fit, what is adapted, and what is said about it."""

import logging
import re

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from convnext import InputError, WeightsError, create_model, load, load_weights, save_weights
from convnext.nn.backbone import ConvNeXt
from convnext.variants import VARIANTS
from convnext.weights import MismatchError, read_meta

ATTO = "convnextv2_atto"
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that differs from every fresh one, and its file."""
    model = create_model(ATTO, num_classes=5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    path = tmp_path_factory.mktemp("trained") / "model.safetensors"
    save_weights(model, path, meta={"classes": list("abcde")})
    return model, path


def without(state, *prefixes):
    return {key: tensor for key, tensor in state.items() if not key.startswith(prefixes)}


@pytest.mark.parametrize("layout", ["official", "timm", "hf"])
def test_a_saved_model_loads_into_the_same_function(trained, tmp_path, layout):
    model, _ = trained
    save_weights(model, tmp_path / "x.safetensors", layout, meta={"classes": list("abcde")})
    loaded = create_model(ATTO, num_classes=5, weights=tmp_path / "x.safetensors").eval()
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    assert read_meta(tmp_path / "x.safetensors") == {"classes": list("abcde")}


def test_a_perfect_fit_needs_no_notes(trained):
    assert load_weights(create_model(ATTO, num_classes=5), trained[1]).notes == []


def test_an_unknown_layout(trained, tmp_path):
    with pytest.raises(InputError, match=r"unknown layout 'timmm'; nearest: timm"):
        save_weights(trained[0], tmp_path / "x.safetensors", "timmm")


def test_a_head_of_another_size_is_replaced_and_said_so(trained, caplog):
    model = create_model(ATTO, num_classes=3)
    fresh = model.head.weight.clone()
    with caplog.at_level(logging.INFO, "convnext"):
        report = load_weights(model, trained[1])
    assert report.notes == ["the file's head of 5 classes is replaced by a fresh one of 3"]
    assert report.notes[0] in caplog.text
    assert torch.equal(model.head.weight, fresh)
    assert torch.equal(model.embed(IMAGES), trained[0].embed(IMAGES))


def test_a_model_without_head_or_norm_leaves_them_out(trained):
    model = create_model(ATTO, num_classes=0)
    assert load_weights(model, trained[1]).notes == ["left out the file's head: the model has none"]
    assert torch.equal(model.eval()(IMAGES), trained[0].embed(IMAGES))
    variant = VARIANTS[ATTO]
    backbone = ConvNeXt(variant.depths, variant.dims)
    assert load_weights(backbone, trained[1]).notes == ["left out the file's head and last norm: the model has none"]
    assert torch.equal(backbone.eval().pyramid(IMAGES)[3], trained[0].pyramid(IMAGES)[3])


@pytest.mark.parametrize(("absent", "words"), [(("head",), "no head:"), (("head", "norm"), "no head and last norm:")])
def test_a_file_without_head_or_norm_leaves_the_models(trained, tmp_path, absent, words):
    save_file(without(trained[0].state_dict(), *absent), tmp_path / "x.safetensors")
    model = create_model(ATTO, num_classes=5)
    (note,) = load_weights(model, tmp_path / "x.safetensors").notes
    assert words in note
    assert torch.equal(model.pyramid(IMAGES)[3], trained[0].pyramid(IMAGES)[3])


def test_a_stem_for_grey_images_sees_a_grey_colour_image(trained):
    grey = create_model(ATTO, num_classes=5, in_chans=1)
    assert load_weights(grey, trained[1]).notes == ["the stem is adapted from 3 to 1 image channels"]
    one = IMAGES[:, :1]
    torch.testing.assert_close(grey.eval()(one), trained[0](one.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_a_stem_for_other_channels_keeps_the_size_of_its_outputs(trained, channels):
    model = create_model(ATTO, num_classes=5, in_chans=channels)
    load_weights(model, trained[1])
    given, adapted = (m.downsample_layers[0][0].weight for m in (trained[0], model))
    for channel in range(channels):
        torch.testing.assert_close(adapted[:, channel], given[:, channel % 3] * 3 / channels)
    if channels == 6:  # the same picture twice gives the same features
        torch.testing.assert_close(model.eval()(IMAGES.repeat(1, 2, 1, 1)), trained[0](IMAGES), atol=1e-4, rtol=1e-4)


def test_another_stem_patch_is_refused(trained):
    with pytest.raises(MismatchError, match="stem patch of 4, the model one of 2; build it with stem_patch=4"):
        load_weights(create_model(ATTO, num_classes=5, stem_patch=2), trained[1])


def test_every_key_that_does_not_fit_is_listed(trained, tmp_path):
    state = trained[0].state_dict()
    del state["stages.0.1.norm.bias"], state["stages.3.0.grn.beta"]
    state["stages.0.0.extra"] = torch.zeros(1)
    state["stages.1.0.pwconv2.weight"] = torch.zeros(80, 100)
    save_file(state, tmp_path / "x.safetensors")
    model = create_model(ATTO, num_classes=5)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(MismatchError) as caught:
        load_weights(model, tmp_path / "x.safetensors")
    assert caught.value.missing == ["stages.0.1.norm.bias", "stages.3.0.grn.beta"]
    assert caught.value.unexpected == ["stages.0.0.extra"]
    assert caught.value.misshapen == ["stages.1.0.pwconv2.weight"]
    assert str(caught.value) == (
        f"{tmp_path}/x.safetensors does not fit the model; missing: stages.0.1.norm.bias, stages.3.0.grn.beta; "
        "unexpected: stages.0.0.extra; misshapen: stages.1.0.pwconv2.weight [80, 100] for [80, 320]"
    )
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_long_list_is_shortened_in_the_message_only(trained, tmp_path):
    save_file(without(trained[0].state_dict(), "stages.2.0", "stages.2.1", "stages.2.2"), tmp_path / "x.safetensors")
    with pytest.raises(MismatchError, match="and 10 more") as caught:
        load_weights(create_model(ATTO, num_classes=5), tmp_path / "x.safetensors")
    assert len(caught.value.missing) == 30
    assert "\n" not in str(caught.value)


def test_another_model_of_the_family_is_named(trained):
    with pytest.raises(MismatchError, match=r"holds convnextv2_atto, the model is convnextv2_tiny") as caught:
        load_weights(create_model("convnextv2_tiny"), trained[1])
    assert caught.value.missing
    with pytest.raises(MismatchError, match=r"holds convnextv2_atto, the model is convnext_tiny"):
        load_weights(create_model("convnext_tiny"), trained[1])


@pytest.mark.parametrize("other", ["resnet18", "vit_tiny_patch16_224"])
def test_another_architecture_is_said_to_be_one(tmp_path, other):
    torch.save(timm.create_model(other).state_dict(), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"is not a ConvNeXt: it has [0-4] of the model's") as caught:
        create_model(ATTO, weights=tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert re.search(r"has (no|a) name for \S+, \S+, \S+ and \d+ more$", str(caught.value))
    with pytest.raises(WeightsError, match=r"not a ConvNeXt of the family: .* no layout has a name for \w+"):
        load(tmp_path / "x.pth")


def test_v1_with_and_without_layer_scale(tmp_path):
    plain = create_model("convnext_tiny", num_classes=2, layer_scale_init=0)
    save_weights(plain, tmp_path / "x.safetensors")
    again = create_model("convnext_tiny", num_classes=2, layer_scale_init=0, weights=tmp_path / "x.safetensors")
    assert torch.equal(again.head.weight, plain.head.weight)
    with pytest.raises(MismatchError, match=r"missing: stages\.0\.0\.gamma"):
        create_model("convnext_tiny", num_classes=2, weights=tmp_path / "x.safetensors")


def test_pretraining_files_load_into_a_classifier(trained, tmp_path):
    from convnext.weights.layouts import from_official

    encoder = from_official(without(trained[0].state_dict(), "head", "norm"), "fcmae")
    torch.save({"model": encoder | {"proj.weight": torch.zeros(512, 320, 1, 1)}}, tmp_path / "x.pt")
    model = create_model(ATTO, num_classes=5)
    notes = load_weights(model, tmp_path / "x.pt").notes
    assert any("decoder" in note for note in notes)
    assert any("no head and last norm" in note for note in notes)
    assert torch.equal(model.eval().pyramid(IMAGES)[3], trained[0].pyramid(IMAGES)[3])


def test_half_precision_files_load_into_full_precision_models(trained, tmp_path):
    halves = {key: tensor.half() for key, tensor in trained[0].state_dict().items()}
    save_file(halves, tmp_path / "x.safetensors")
    model = create_model(ATTO, num_classes=5, weights=tmp_path / "x.safetensors")
    assert model.head.weight.dtype == torch.float32
    assert load_file(tmp_path / "x.safetensors")["head.weight"].dtype == torch.float16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weight: weight.fill_(torch.nan), "not finite"),
        (lambda weight: weight.fill_(torch.inf), "not finite"),
        (lambda weight: weight.to(torch.int8), "is of a kind that weights are not: torch.int8"),
    ],
    ids=["nan", "inf", "int8"],
)
def test_numbers_that_no_network_learnt_are_refused(trained, tmp_path, change, words):
    """A model answered nan, or by weights that were cut to whole numbers."""
    key = "stages.0.0.dwconv.weight"
    state = trained[0].state_dict()
    save_file({**state, key: change(state[key].clone())}, tmp_path / "x.safetensors")
    for load_them in (load, lambda path: create_model(ATTO, num_classes=5, weights=path)):
        with pytest.raises(WeightsError, match=f"'{key}' .*{words}"):
            load_them(tmp_path / "x.safetensors")
