import torch
from torch import nn

from convnext.train.ema import AveragedModel


def test_average_follows_the_weights_at_its_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = AveragedModel(model, decay=0.9)
    nn.init.ones_(model.weight)
    average.update(model, step=10_000)
    torch.testing.assert_close(average.model.weight.item(), 0.1)


def test_first_weights_soon_cease_to_matter() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = AveragedModel(model, decay=0.9999)
    nn.init.ones_(model.weight)
    for step in range(1, 50):
        average.update(model, step)
    assert average.model.weight.item() > 0.99


def test_average_does_not_share_memory_or_gradients() -> None:
    model = nn.Linear(2, 2)
    average = AveragedModel(model, decay=0.9)
    model.weight.data.add_(1)
    assert not torch.equal(average.model.weight, model.weight)
    assert not any(p.requires_grad for p in average.model.parameters())
