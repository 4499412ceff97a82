"""The feature cosine distance against its definition, pair by pair."""

import pytest
import torch
from torch.nn import functional as F

from convnext import create_model
from convnext.analysis.collapse import feature_distances


def test_equals_the_definition():
    torch.manual_seed(0)
    model = create_model("convnextv2_atto", num_classes=0)
    images = torch.randn(3, 3, 64, 64)
    seen = []
    layer = model.stages[1][1].pwconv1
    handle = layer.register_forward_hook(lambda layer, inputs, out: seen.append(F.gelu(out)))
    model.forward_stages(images)
    handle.remove()
    expected = []
    for features in seen[0].double():  # [H, W, 4C] of one image
        vectors = features.flatten(0, 1).T
        cosines = F.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
        expected.append(((1 - cosines) / 2).mean())
    distances = feature_distances(model, [images[:2], images[2:]])
    assert len(distances) == 12
    assert distances[3] == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)
    assert model.training


def test_equal_channels_are_a_collapse():
    model = create_model("convnextv2_atto", num_classes=0)
    layer = model.stages[0][0].pwconv1
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:1].expand_as(layer.weight))
        layer.bias.fill_(1)
    distances = feature_distances(model, [torch.randn(1, 3, 64, 64)])
    assert distances[0] < 1e-4
    assert min(distances[1:]) > 0.01
