"""Visible patches: which are drawn, and the way from maps to patches and back."""

import pytest
import torch

from convnext.models.masking import random_patches, visible_count
from convnext.nn.visible_patches import VisiblePatches


def test_the_papers_count():
    assert visible_count(49, 0.6) == 19


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


@pytest.mark.parametrize("block", [1, 2, 3])
def test_random_patches_keep_the_right_number_and_can_be_drawn_again(block):
    def draw(seed):
        return random_patches(50, (6, 9), 0.7, block=block, generator=torch.Generator().manual_seed(seed)).mask()

    masks = draw(0)
    assert (masks.flatten(1).sum(1) == 54 - visible_count(54, 0.7)).all()
    assert torch.equal(masks, draw(0))
    assert not torch.equal(masks, draw(1))
    assert masks.float().mean(0).sub(0.7).abs().max() < 0.3  # no place is favoured


def test_blocks_hide_neighbours_together():
    def agreement(block):
        masks = random_patches(200, (14, 14), 0.6, block=block, generator=torch.Generator().manual_seed(0)).mask()
        return (masks[:, :, 1:] == masks[:, :, :-1]).float().mean().item()

    assert agreement(1) < 0.55
    assert agreement(2) > 0.7
    assert agreement(4) > agreement(2)


@pytest.mark.parametrize("ratio", [0, 1, -0.5, 2, 0.99])
def test_ratios_that_cannot_be(ratio):
    message = "leaves none of 7×7 patches visible" if ratio == 0.99 else "must lie between 0 and 1"
    with pytest.raises(ValueError, match=message):
        random_patches(1, (7, 7), ratio)


def test_the_complement_is_what_is_hidden():
    patches = random_patches(3, (4, 6), 0.7, generator=torch.Generator().manual_seed(0))
    hidden = patches.complement()
    assert torch.equal(hidden.index, patches.mask().flatten(1).nonzero()[:, 1].view(3, -1))
    assert torch.equal(hidden.mask(), ~patches.mask())
    vectors = torch.randn(3, hidden.index.shape[1], 5)
    places = hidden.scatter(vectors)
    assert torch.equal(places[patches.mask().flatten(1)], vectors.flatten(0, 1))
    assert (places[~patches.mask().flatten(1)] == 0).all()
