"""Activation maps of a block, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peers import randomise
from torch.nn import functional as F

from convnext import InputError, create_model
from convnext.analysis.activations import CHANNEL_GAP, CHANNEL_SIDE, activation_maps, draw_channels


def test_they_are_the_features_after_gelu() -> None:
    torch.manual_seed(0)
    model = randomise(create_model("convnextv2_atto", num_classes=0)).eval()
    images = torch.randn(2, 3, 64, 96)
    block = model.stages[2][1]
    inputs: list[torch.Tensor] = []
    handle = block.register_forward_hook(lambda layer, given, out: inputs.append(given[0]))
    model.run_stages(images)
    handle.remove()
    expected = F.gelu(block.pwconv1(block.norm(block.dwconv(inputs[0]))))
    found = activation_maps(model, images, 6)
    assert found.shape == (2, 4, 6, 4 * 160)
    torch.testing.assert_close(found, expected.detach())
    with pytest.raises(InputError, match="blocks 1 to 12, not 13"):
        activation_maps(model, images, 13)


def test_each_channel_has_its_own_range_and_a_flat_one_is_grey() -> None:
    maps = torch.tensor([[[0.0, 5.0, 7.0]], [[2.0, 4.0, 7.0]]])  # 2 rows, 1 column, 3 channels
    pixels = np.asarray(draw_channels(maps))
    assert pixels.shape == (2 * (CHANNEL_SIDE + CHANNEL_GAP) + CHANNEL_GAP,) * 2
    middles = [CHANNEL_GAP + CHANNEL_SIDE // 4, CHANNEL_GAP + 3 * CHANNEL_SIDE // 4]
    step = CHANNEL_SIDE + CHANNEL_GAP
    assert [pixels[y, CHANNEL_GAP + CHANNEL_SIDE // 2] for y in middles] == [0, 255]
    assert [pixels[y, step + CHANNEL_GAP + CHANNEL_SIDE // 2] for y in middles] == [255, 0]
    assert [pixels[step + y, CHANNEL_GAP + CHANNEL_SIDE // 2] for y in middles] == [128, 128]
