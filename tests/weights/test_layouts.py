"""Key maps: against the libraries whose layouts they are, and against a written-out reading of MinkowskiEngine's."""

import pytest
import timm
import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
)

from convnext import InputError, WeightsError, create_model, list_models
from convnext.variants import VARIANTS
from convnext.weights.layouts import detect_layout, from_official, to_official


def shapes(state):
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def foreign_model(layout, name):
    variant = VARIANTS[name]
    if layout == "timm":
        return timm.create_model(name)
    config, model = {
        1: (ConvNextConfig, ConvNextForImageClassification),
        2: (ConvNextV2Config, ConvNextV2ForImageClassification),
    }[variant.version]
    return model(config(hidden_sizes=list(variant.dims), depths=list(variant.depths), num_labels=1000))


@pytest.mark.parametrize("layout", ["timm", "hf"])
@pytest.mark.parametrize("name", list_models())
def test_names_and_shapes_are_the_other_librarys_in_both_directions(name, layout):
    with torch.device("meta"):
        own, foreign = create_model(name).state_dict(), foreign_model(layout, name).state_dict()
    assert detect_layout(foreign) == layout
    assert shapes(from_official(own, layout)) == shapes(foreign)
    assert shapes(to_official(foreign)) == shapes(own)


@pytest.mark.parametrize("layout", ["official", "timm", "hf", "mmpretrain", "fcmae", "encoder"])
@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_tiny"])
def test_a_round_trip_changes_nothing(name, layout):
    state = create_model(name, num_classes=3).state_dict()
    if layout == "fcmae":
        state = {key: tensor for key, tensor in state.items() if not key.startswith(("norm", "head", "gamma"))}
        state = {key: tensor for key, tensor in state.items() if name == "convnextv2_atto" or ".gamma" not in key}
    back = to_official(from_official(state, layout))
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_a_hugging_face_file_without_the_model_prefix():
    state = create_model("convnextv2_atto", num_classes=0).state_dict()
    bare = {key.removeprefix("convnextv2."): tensor for key, tensor in from_official(state, "hf").items()}
    assert shapes(to_official(bare)) == shapes(state)


def test_mmpretrain_names_and_shapes_as_its_source_has_them():
    # mmpretrain itself cannot be installed beside today's torch, so its names are written out.
    state = create_model("convnextv2_atto", num_classes=3).state_dict()
    foreign = shapes(from_official(state, "mmpretrain"))
    assert len(foreign) == len(state)
    assert foreign["backbone.downsample_layers.0.0.weight"] == (40, 3, 4, 4)
    assert foreign["backbone.stages.2.5.depthwise_conv.weight"] == (160, 1, 7, 7)
    assert foreign["backbone.stages.2.5.pointwise_conv1.weight"] == (640, 160)
    assert foreign["backbone.stages.2.5.grn.gamma"] == (640,)
    assert foreign["backbone.norm3.bias"] == (320,)
    assert foreign["head.fc.weight"] == (3, 320)
    v1 = from_official(create_model("convnext_tiny", num_classes=3).state_dict(), "mmpretrain")
    assert shapes(v1)["backbone.stages.0.0.gamma"] == (96,)


def test_minkowski_layout_position_by_position():
    depthwise, down = torch.randn(49, 5), torch.randn(4, 3, 6)
    state = {
        "encoder.downsample_layers.0.0.weight": torch.randn(5, 3, 4, 4),
        "encoder.downsample_layers.1.0.ln.weight": torch.randn(3),
        "encoder.downsample_layers.1.1.kernel": down,
        "encoder.downsample_layers.1.1.bias": torch.randn(1, 6),
        "encoder.stages.0.1.dwconv.kernel": depthwise,
        "encoder.stages.0.1.dwconv.bias": torch.randn(1, 5),
        "encoder.stages.0.1.norm.ln.bias": torch.randn(5),
        "encoder.stages.0.1.pwconv1.linear.weight": torch.randn(20, 5),
        "encoder.stages.0.1.grn.gamma": torch.randn(1, 20),
        "decoder.0.dwconv.weight": torch.randn(2, 1, 7, 7),
        "mask_token": torch.randn(1, 2, 1, 1),
    }
    official = to_official(state)
    for y in range(7):
        for x in range(7):  # MinkowskiEngine's first axis is x
            assert torch.equal(official["stages.0.1.dwconv.weight"][:, 0, y, x], depthwise[7 * x + y])
    for y in range(2):
        for x in range(2):
            assert torch.equal(official["downsample_layers.1.1.weight"][:, :, y, x], down[2 * x + y].T)
    assert torch.equal(official["downsample_layers.1.1.bias"], state["encoder.downsample_layers.1.1.bias"][0])
    assert torch.equal(official["downsample_layers.1.0.weight"], state["encoder.downsample_layers.1.0.ln.weight"])
    assert official["stages.0.1.grn.gamma"].shape == (1, 1, 1, 20)
    assert {"downsample_layers.0.0.weight", "stages.0.1.norm.bias", "stages.0.1.pwconv1.weight"} <= set(official)
    assert {"decoder.0.dwconv.weight", "mask_token"} <= set(official)


@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 1, 8)])
def test_grn_parameters_of_every_rank_become_official(shape):
    state = {"stages.0.0.grn.gamma": torch.arange(8.0).reshape(shape)}
    assert torch.equal(to_official(state)["stages.0.0.grn.gamma"], torch.arange(8.0).reshape(1, 1, 1, 8))


def test_names_of_no_layout():
    with torch.device("meta"):
        resnet = timm.create_model("resnet18").state_dict()
    assert detect_layout(resnet) is None
    assert to_official(resnet) == resnet


def test_an_impossible_kernel_is_named():
    with pytest.raises(WeightsError, match=r"'stages.0.0.dwconv.weight' has the shape \[5, 8\]"):
        to_official({"encoder.stages.0.0.dwconv.kernel": torch.zeros(5, 8)})


def test_what_a_layout_cannot_hold_is_refused():
    state = create_model("convnextv2_atto").state_dict()
    with pytest.raises(InputError, match=r"unknown layout 'tim'; nearest: timm"):
        from_official(state, "tim")
    with pytest.raises(InputError, match=r"timm layout has no name for 'fpn.weight'"):
        from_official(state | {"fpn.weight": torch.zeros(1)}, "timm")
