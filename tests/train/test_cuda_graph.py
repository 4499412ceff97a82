"""Steps as CUDA graphs, by a stand-in for the GPU's recorder; `tests/cuda` has the real one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convnext.train.cuda_graph import BEFORE, GraphedStep


class Recorder:
    """Does what a GPU does: a replay reads and writes the tensors of the recording, and adds to none."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.replayed = model, 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], object]]:
        loss, gradients = work(), [p.grad for p in self.model.parameters()]

        def replay() -> None:
            self.replayed += 1
            self.model.zero_grad()
            loss.copy_(work())
            for place, parameter in zip(gradients, self.model.parameters(), strict=True):
                place.copy_(parameter.grad)
            self.model.zero_grad()

        return loss, replay


def trained(recorder: Callable | None, sizes: list[int], replayed: int = 0) -> tuple[list[float], list[Tensor]]:
    """Losses and weights of a small model after steps on batches of such sizes; with a `recorder`, so many replayed."""
    torch.manual_seed(0)
    model = nn.Linear(5, 3)

    def compute(part: tuple[Tensor, Tensor]) -> Tensor:
        loss = nn.functional.cross_entropy(model(part[0]), part[1])
        loss.backward()
        return loss.detach()

    record = recorder(model) if recorder is not None else None
    step = GraphedStep(compute, model, list, record) if record is not None else compute
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.1), []
    for size in sizes:
        losses.append(float(step((torch.randn(size, 5), torch.randint(3, (size,))))))
        optimizer.step()
        optimizer.zero_grad()
    if isinstance(record, Recorder):
        assert record.replayed == replayed
    return losses, [p.detach() for p in model.parameters()]


@pytest.mark.parametrize(
    ("sizes", "replayed"),
    [([8] * 9, 9 - BEFORE), ([8] * 5 + [4] + [8] * 3, 5 - BEFORE + 3), ([8] * 5 + [9] * 6, 5 - BEFORE + 6 - BEFORE)],
    ids=["one size", "another between", "growing"],
)
def test_recorded_steps_are_the_same_steps(sizes: list[int], replayed: int) -> None:
    losses, weights = trained(Recorder, sizes, replayed)
    plain, expected = trained(None, sizes)
    assert losses == plain
    assert all(map(torch.equal, weights, expected))


def test_a_step_that_cannot_be_recorded_is_computed(caplog: pytest.LogCaptureFixture) -> None:
    def refusing(model: nn.Module) -> Callable:
        def record(work: Callable) -> None:
            work()
            raise RuntimeError("operation not permitted when stream is capturing")

        return record

    assert trained(refusing, [8] * 6)[0] == trained(None, [8] * 6)[0]
    assert [r.message for r in caplog.records] == [
        "a step cannot be recorded as a CUDA graph (operation not permitted when stream is capturing): "
        "kernels are launched one by one"
    ]
