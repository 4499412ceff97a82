"""Key maps: against the libraries whose layouts they are, and against a written-out reading of MinkowskiEngine's."""

import logging
import re

import pytest
import timm
import torch
from peers import NAMES, foreign_model, members

from convnext import InputError, WeightsError, create_model
from convnext.variants import VARIANTS
from convnext.weights import read_state
from convnext.weights.layouts import detect_layout, from_official, leave_out_extras, to_official


def shapes(state):
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


@pytest.mark.parametrize(
    ("layout", "name"),
    [pytest.param(layout, *each.values, marks=each.marks) for layout in NAMES for each in members(NAMES[layout])],
)
def test_names_and_shapes_are_the_other_librarys_in_both_directions(layout, name):
    with torch.device("meta"):
        own = create_model(name, num_classes=0 if layout == "dinov3" else 1000).state_dict()
        foreign = foreign_model(layout, name).state_dict()
    assert detect_layout(foreign).split("/")[0] == layout
    assert shapes(from_official(own, layout)) == shapes(foreign)
    assert shapes(to_official(foreign)) == shapes(own)


@pytest.mark.parametrize("layout", ["official", "timm", "hf", "mmpretrain", "fcmae"])
@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
def test_a_round_trip_changes_nothing(name, layout):
    state = create_model(name, num_classes=3).state_dict()
    if layout == "fcmae":
        state = {key: tensor for key, tensor in state.items() if not key.startswith(("norm", "head"))}
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
    with pytest.raises(InputError, match=r"torchvision layout has no name for 'stages.0.0.grn.gamma' of convnextv2_a"):
        from_official(state, "torchvision")


@pytest.mark.parametrize(
    ("name", "layout", "reason"),
    [
        ("convnext_atto_rms", "hf", "cannot hold convnext_atto_rms, which has another norm than LayerNorm"),
        ("convnext_xxlarge", "torchvision", "which has norms with an eps of 1e-05, and 1e-06 is fixed there"),
        ("convnext_isotropic_small", "timm", "which is isotropic"),
        ("convnext_atto", "isotropic", "which is not isotropic"),
        ("convnext_atto_ols", "hf", "the hf layout has no name for 'downsample_layers.0.overlap.weight'"),
        ("convnext_tiny_hnf", "mmpretrain", "the mmpretrain layout has no name for 'norm_pre.weight'"),
        ("convnext_large_mlp", "hf", "the hf layout has no name for 'pre_logits.fc.weight'"),
    ],
)
def test_a_network_that_the_other_library_builds_otherwise_is_refused(name, layout, reason):
    with torch.device("meta"):
        state = create_model(name).state_dict()
    with pytest.raises(InputError, match=re.escape(reason)):
        from_official(state, layout)


def isotropic_file(name):
    """Names and shapes as the official repository's network of one stage has them, written out."""
    variant = VARIANTS[name]
    dim, state = variant.dims[0], {}

    def add(key, *shape):
        state[f"{key}.weight"], state[f"{key}.bias"] = torch.randn(*shape), torch.randn(shape[0])

    add("stem", dim, 3, 16, 16)
    for j in range(variant.depths[0]):
        if variant.layer_scale:
            state[f"blocks.{j}.gamma"] = torch.randn(dim)
        add(f"blocks.{j}.dwconv", dim, 1, 7, 7)
        add(f"blocks.{j}.norm", dim)
        add(f"blocks.{j}.pwconv1", 4 * dim, dim)
        add(f"blocks.{j}.pwconv2", dim, 4 * dim)
    add("norm", dim)
    add("head", 1000, dim)
    return state


@pytest.mark.parametrize("name", ["convnext_isotropic_small", "convnext_isotropic_base", "convnext_isotropic_large"])
def test_isotropic_files(name):
    with torch.device("meta"):
        foreign = isotropic_file(name)
        own = create_model(name, layer_scale_init=1e-6).state_dict()
    assert detect_layout(foreign) == "isotropic"
    assert shapes(to_official(foreign)) == shapes(own)
    assert shapes(from_official(own, "isotropic")) == shapes(foreign)


CLIP = {
    "convnext_base": ("convnext_base", {"head.proj.weight": (640, 1024)}),
    "convnext_large": ("convnext_large_mlp", {"head.mlp.fc1.weight": (1536, 1536), "head.mlp.fc1.bias": (1536,)}),
    "convnext_xxlarge": ("convnext_xxlarge", {"head.proj.weight": (1024, 3072)}),
}


@pytest.mark.parametrize("trunk", CLIP)
def test_open_clip_towers(trunk):
    """The tower is timm's network without a head, and OpenCLIP's projection; written out, with a text tower beside."""
    name, head = CLIP[trunk]
    with torch.device("meta"):
        tower = {f"trunk.{key}": tensor for key, tensor in timm.create_model(trunk, num_classes=0).state_dict().items()}
        if "mlp" in name:
            head = head | {"head.mlp.fc2.weight": (768, 1536)}
        tower |= {key: torch.zeros(shape) for key, shape in head.items()}
        foreign = {f"visual.{key}": tensor for key, tensor in tower.items()}
        text = {"logit_scale": torch.zeros(1), "transformer.resblocks.0.ln_1.weight": torch.zeros(4)}
        width = tower["head.mlp.fc2.weight" if "mlp" in name else "head.proj.weight"].shape[0]
        own = create_model(name, num_classes=width).state_dict()
    layout = detect_layout(foreign | text)
    assert layout.split("/")[0] == "open_clip"
    kept, left = leave_out_extras(foreign | text, layout)
    assert (set(kept), set(left)) == (set(foreign), set(text))
    assert shapes(to_official(kept)) == shapes(own)


def test_a_projection_has_no_bias():
    state = create_model("convnext_atto", num_classes=5).state_dict()
    back = to_official(from_official(state, "open_clip"))
    assert list(back) == list(state)
    with pytest.raises(InputError, match="ends in a projection without a bias"):
        from_official(state | {"head.bias": torch.ones(5)}, "open_clip")


def dinov3_file():
    state = create_model("convnext_atto", num_classes=0).state_dict()
    return state | {f"norms.3.{p}": state[f"norm.{p}"].clone() for p in ("weight", "bias")}


def test_a_second_copy_of_the_last_norm_is_dropped_where_it_is_one(tmp_path):
    state = dinov3_file()
    torch.save(state, tmp_path / "dinov3.pth")
    read, _ = read_state(tmp_path / "dinov3.pth")
    assert set(state) - set(read) == {"norms.3.weight", "norms.3.bias"}
    torch.save(state | {"norms.3.bias": torch.ones(320)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"'norms.3.bias' should be the same as 'norm.bias', and is not"):
        read_state(tmp_path / "other.pth")


def test_what_eupes_files_hold_beside_the_network_is_said(tmp_path, caplog):
    extra = {"projectors.a.weight": torch.zeros(2), "norms.0.weight": torch.ones(40)}
    torch.save(dinov3_file() | extra, tmp_path / "EUPE-ConvNeXt-A.pt")
    with caplog.at_level(logging.INFO, "convnext"):
        read, _ = read_state(tmp_path / "EUPE-ConvNeXt-A.pt")
    assert "left out 4 tensors that are not the network's: norms, projectors" in caplog.text
    assert not [key for key in read if key.startswith(("norms.", "projectors."))]


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_dinov3_file_of_the_hub_with_and_without_a_prefix(prefix):
    state = create_model("convnext_atto", num_classes=0).state_dict()
    foreign = {f"{prefix}{key.removeprefix('model.')}": t for key, t in from_official(state, "dinov3").items()}
    assert shapes(to_official(foreign)) == shapes(state)
