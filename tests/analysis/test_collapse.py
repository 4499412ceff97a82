"""The features of blocks against a plain statement of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peers import randomise
from torch.nn import functional as F

from convnext import create_model
from convnext.analysis.blocks import blocks_of
from convnext.analysis.collapse import block_features, feature_distances


def distance_of(features: np.ndarray) -> float:
    """Of one image's features [positions, channels], pair by pair."""
    vectors = features.T / np.linalg.norm(features.T, axis=1, keepdims=True)
    return float(np.mean([[(1 - one @ other) / 2 for other in vectors] for one in vectors]))


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_equals_the_definition(name: str) -> None:
    torch.manual_seed(0)
    model = randomise(create_model(name, num_classes=0))
    images = torch.randn(2, 3, 64, 64)
    seen: list[np.ndarray] = []
    layer = blocks_of(model)[4][1].pwconv1
    handle = layer.register_forward_hook(
        lambda layer, inputs, out: seen.append(F.gelu(out.detach()).double().flatten(1, -2).numpy())
    )
    model.eval().run_stages(images)
    handle.remove()
    found = block_features(model.train(), [images])
    assert model.training
    assert len(found) == sum(model.depths)
    assert [found[0].place, found[-1].place] == [(1, 1), (sum(model.depths), 4)]
    assert found[4].distance == pytest.approx(np.mean([distance_of(image) for image in seen[0]]), abs=1e-6)


def test_it_is_the_mean_over_images_however_they_are_batched() -> None:
    torch.manual_seed(0)
    model = randomise(create_model("convnextv2_atto", num_classes=0))
    images = torch.randn(5, 3, 64, 64)
    whole, parts = feature_distances(model, [images]), feature_distances(model, [images[3:], images[:0], images[:3]])
    assert whole == pytest.approx(parts, abs=1e-6)


def test_equal_channels_are_a_collapse() -> None:
    model = create_model("convnextv2_atto", num_classes=0)
    layer = model.stages[0][0].pwconv1
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:1].expand_as(layer.weight))
        layer.bias.fill_(1)
    distances = feature_distances(model, [torch.randn(1, 3, 64, 64)])
    assert distances[0] < 1e-4
    assert min(distances[1:]) > 0.01


def test_dead_and_saturated_channels_are_counted() -> None:
    """Two channels in four, and one, over all images; what is positive on one image alone is neither."""
    torch.manual_seed(0)
    model = create_model("convnextv2_atto", num_classes=0)
    layer = model.stages[1][0].pwconv1
    quarter = layer.out_features // 4
    with torch.no_grad():
        layer.bias[: 2 * quarter] = -1e3
        layer.bias[2 * quarter : 3 * quarter] = 1e3
    found = block_features(model, [torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)])
    assert (found[2].dead, found[2].saturated) == (0.5, 0.25)
    assert found[3].dead < 0.1
    assert found[3].saturated < 0.1
