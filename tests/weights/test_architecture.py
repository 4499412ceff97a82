"""Recognising a member of the family by its shapes."""

import pytest
import torch

from convnext import InputError, WeightsError, create_model, list_models
from convnext.variants import VARIANTS
from convnext.weights import Architecture, describe


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_recognised(name):
    variant = VARIANTS[name]
    patch = 2 if variant.stem == "patch" else 4
    with torch.device("meta"):
        state = create_model(name, num_classes=7, in_chans=4, stem_patch=patch).state_dict()
    scaled = variant.version == 1 and variant.layer_scale
    assert describe(state) == Architecture(name, variant.version, 7, 4, patch, layer_scale=scaled)


def test_a_stem_of_its_own_has_no_patches_to_choose():
    for name in ("convnext_atto_ols", "convnext_isotropic_small"):
        with pytest.raises(InputError, match=f"{name} has a stem of its own: leave stem_patch at 4"):
            create_model(name, stem_patch=2)


def test_another_stem_than_any_members_is_refused():
    with torch.device("meta"):
        state = create_model("convnext_atto").state_dict()
        state["downsample_layers.0.overlap.weight"] = torch.zeros(40, 40, 3, 3)
    with pytest.raises(WeightsError, match="as convnext_atto has, but another stem, norm or head"):
        describe(state)


def test_no_head_and_no_layer_scale():
    with torch.device("meta"):
        state = create_model("convnext_tiny", num_classes=0, layer_scale_init=0).state_dict()
    found = describe(state)
    assert (found.num_classes, found.layer_scale) == (0, False)


def test_others_are_refused():
    with pytest.raises(WeightsError, match="not a ConvNeXt"):
        describe({"conv1.weight": torch.zeros(64, 3, 7, 7)})
    state = create_model("convnextv2_atto").state_dict()
    fewer = {key: tensor for key, tensor in state.items() if not key.startswith("stages.2.5")}
    with pytest.raises(WeightsError, match=r"depths \(2, 2, 5, 2\) and widths \(40, 80, 160, 320\)"):
        describe(fewer)
    with pytest.raises(WeightsError, match="not a ConvNeXt"):
        describe({"downsample_layers.0.0.weight": torch.tensor(1.0), "stages.0.0.dwconv.weight": torch.tensor(1.0)})
