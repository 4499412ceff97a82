"""Which patches random masks leave visible."""

import pytest
import torch

from convnext.models.masking import random_patches, visible_count


def test_the_papers_count():
    assert visible_count(49, 0.6) == 19


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
