"""Visible patches: the way from maps to patches and back."""

import pytest
import torch

from convnext.models.masking import random_patches
from convnext.nn.visible_patches import VisiblePatches


@pytest.mark.parametrize("p", [1, 2, 5])
@pytest.mark.parametrize("grid", [(7, 7), (2, 5)])
def test_cut_takes_the_patches_of_the_mask(p, grid):
    patches = random_patches(3, grid, 0.6, generator=torch.Generator().manual_seed(0))
    mask, maps = patches.mask(), torch.randn(3, grid[0] * p, grid[1] * p, 4)
    cut = patches.cut(maps)
    for n in range(3):
        places = [(y, x) for y in range(grid[0]) for x in range(grid[1]) if not mask[n, y, x]]
        assert len(places) == cut.shape[1]
        for v, (y, x) in enumerate(places):
            assert torch.equal(cut[n, v], maps[n, y * p : y * p + p, x * p : x * p + p])


def test_fill_is_the_inverse_and_knows_its_background():
    patches = random_patches(2, (3, 4), 0.5)
    maps = torch.randn(2, 6, 8, 5)
    hidden = patches.mask().repeat_interleave(2, 1).repeat_interleave(2, 2)[..., None]
    assert torch.equal(patches.fill(patches.cut(maps)), maps.masked_fill(hidden, 0))
    token = torch.randn(5)
    assert torch.equal(patches.fill(patches.cut(maps), token), torch.where(hidden, token, maps))
    assert torch.equal(VisiblePatches.from_mask(patches.mask()).index, patches.index)


def test_gradients_of_fill_reach_patches_and_background():
    patches = random_patches(2, (3, 3), 0.5)
    values = torch.randn(2, 4, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    token = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(patches.fill, (values, token))


def test_the_complement_is_what_is_hidden():
    patches = random_patches(3, (4, 6), 0.7, generator=torch.Generator().manual_seed(0))
    hidden = patches.complement()
    assert torch.equal(hidden.index, patches.mask().flatten(1).nonzero()[:, 1].view(3, -1))
    assert torch.equal(hidden.mask(), ~patches.mask())
    vectors = torch.randn(3, hidden.index.shape[1], 5)
    places = hidden.scatter(vectors)
    assert torch.equal(places[patches.mask().flatten(1)], vectors.flatten(0, 1))
    assert (places[~patches.mask().flatten(1)] == 0).all()
