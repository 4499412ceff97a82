"""How far an export is from its network, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from convnext.deploy.export.verify import share_of_range


@pytest.mark.parametrize(
    ("own", "found", "share"),
    [
        ([0.0, 2, 4], [0.0, 2, 4], 0),
        ([0.0, 2, 4], [0.0, 3, 3.5], 0.25),
        ([-3.0, -1], [-3.0, -2], 0.5),
        ([5.0, 5], [5.0, 5], 0),
        ([0.0, 0], [0.0, 1e-7], 0.1),  # a range of nothing counts as a millionth
        ([0.0, 1], [0.0, math.nan], math.inf),
        ([0.0, 1], [math.inf, 1], math.inf),
    ],
)
def test_a_difference_is_a_share_of_the_range(own: list[float], found: list[float], share: float) -> None:
    assert share_of_range(torch.tensor(own), torch.tensor(found)) == pytest.approx(share)


def test_one_number_an_image_has_a_range_of_one_at_least() -> None:
    assert share_of_range(torch.tensor([[0.25]]), torch.tensor([[0.5]])) == 0.25
    assert share_of_range(torch.tensor([[0.0], [4.0]]), torch.tensor([[0.0], [3.0]])) == 0.25
