"""Recognising a member of the family by its shapes."""

import pytest
import torch

from convnext import WeightsError, create_model, list_models
from convnext.weights import Architecture, describe


@pytest.mark.parametrize("name", list_models())
def test_every_model_is_recognised(name):
    with torch.device("meta"):
        state = create_model(name, num_classes=7, in_chans=4, stem_patch=2).state_dict()
    v1 = name.startswith("convnext_")
    assert describe(state) == Architecture(name, 1 if v1 else 2, 7, 4, 2, layer_scale=v1)


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
