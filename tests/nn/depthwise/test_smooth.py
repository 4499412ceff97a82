"""Depthwise kernels that start smooth."""

from __future__ import annotations

import torch

import convnext
from convnext.nn.depthwise.layer import DepthwiseConv
from convnext.nn.depthwise.smooth import NORM, smooth_kernels, start_smooth


def test_kernels_are_smooth_and_larger_in_the_middle() -> None:
    torch.manual_seed(0)
    kernels = smooth_kernels(4000)
    assert kernels.shape == (4000, 1, 7, 7)
    torch.testing.assert_close(kernels.flatten(1).norm(dim=1), torch.full((4000,), NORM))
    places = kernels[:, 0]

    def correlation(a: tuple[int, int], b: tuple[int, int]) -> float:
        return float(torch.corrcoef(torch.stack([places[:, *a], places[:, *b]]))[0, 1])

    assert 0.4 < correlation((3, 3), (3, 4)) < 0.55  # exp(-1 / (2 * 0.8²)) = 0.46
    assert abs(correlation((3, 3), (3, 6))) < 0.1
    assert abs(correlation((0, 0), (6, 6))) < 0.1
    spread = places.std(0)
    assert spread.argmax() == 3 * 7 + 3
    assert spread[3, 3] > 2.5 * spread[0, 0]
    assert abs(float(places.mean())) < 0.005  # neither sign


def test_the_seed_decides() -> None:
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(smooth_kernels(8))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_nothing_else_of_a_network_changes() -> None:
    network = convnext.create_model("convnextv2_atto", num_classes=3)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    start_smooth(network)
    changed = {name for name, weight in network.state_dict().items() if not torch.equal(weight, before[name])}
    depthwise = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, DepthwiseConv)}
    assert len(depthwise) == 12
    assert changed == depthwise
