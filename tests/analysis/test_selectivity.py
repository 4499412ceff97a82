"""Class selectivity against a plain statement of its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peers import randomise

from convnext import InputError, create_model
from convnext.analysis.blocks import blocks_of
from convnext.analysis.selectivity import class_selectivity, selectivity_index


def index_of(means: np.ndarray) -> np.ndarray:
    """Of class means [classes, channels]."""
    found = []
    for unit in means.T:
        most = unit.max()
        rest = np.delete(unit, unit.argmax()).mean()
        found.append((most - rest) / (most + rest) if most else np.nan)
    return np.array(found)


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_equals_the_definition(name: str) -> None:
    torch.manual_seed(0)
    model = randomise(create_model(name, num_classes=0))
    images, targets = torch.randn(7, 3, 64, 64), torch.tensor([5, 2, 2, 9, 5, 9, 9])
    seen: list[np.ndarray] = []
    block = blocks_of(model)[6][1]
    handle = block.register_forward_hook(lambda layer, inputs, out: seen.append(out.detach().double().numpy()))
    model.eval().run_stages(images)
    handle.remove()
    values = np.maximum(seen[0], 0).reshape(7, -1, seen[0].shape[-1]).mean(axis=1)
    means = np.stack([values[targets.numpy() == c].mean(axis=0) for c in (2, 5, 9)])
    batches = [(images[:3], targets[:3]), (images[3:], targets[3:])]
    found = class_selectivity(model, batches)
    assert len(found) == sum(model.depths)
    np.testing.assert_allclose(found[6].numpy(), index_of(means), atol=1e-6)


def test_by_hand() -> None:
    """A unit of one class alone, one of all alike, one in between, and one that is never positive."""
    means = torch.tensor([[4.0, 3.0, 6.0, 0.0], [0.0, 3.0, 1.0, 0.0], [0.0, 3.0, 3.0, 0.0]])
    torch.testing.assert_close(selectivity_index(means), torch.tensor([1.0, 0.0, 0.5, torch.nan]), equal_nan=True)


def test_it_does_not_depend_on_batches_or_order() -> None:
    torch.manual_seed(0)
    model = randomise(create_model("convnextv2_atto", num_classes=0))
    images, targets = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 0, 1, 2, 2])
    order = [4, 1, 5, 0, 3, 2]
    whole = class_selectivity(model, [(images, targets)])
    parts = class_selectivity(model, [(images[[i]], targets[[i]]) for i in order])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0, equal_nan=True)


def test_one_class_has_no_other_to_compare() -> None:
    model = create_model("convnextv2_atto", num_classes=0)
    with pytest.raises(InputError, match="two classes"):
        class_selectivity(model, [(torch.randn(2, 3, 32, 32), torch.tensor([3, 3]))])
