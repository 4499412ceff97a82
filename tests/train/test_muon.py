"""Muon: the steps of torch's, for convolutions too, and on CPUs nearer to orthogonal ones."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from vacuous import nonempty

from convnext.train import muon
from convnext.train.muon import COEFFICIENTS, TOGETHER, Muon, batches, by_products, orthogonal


@pytest.mark.parametrize("shape", [(320, 80), (80, 320), (64, 64)])
def test_it_is_nearly_the_nearest_orthogonal_matrix(shape: tuple[int, int]) -> None:
    """By singular vectors of double precision, for values from all to a 500th of the norm."""
    left, _, right = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, -2.5, min(shape), dtype=torch.float64)
    values = values / values.norm()
    found = left.T @ orthogonal((left @ values.diag() @ right).float()).double() @ right.T
    kept = found.diagonal()[values > 0.002]
    assert len(kept) > 40
    assert ((kept > 0.77) & (kept < 1.07)).all()
    assert abs(kept.mean() - 0.92) < 0.03
    assert (found - found.diagonal().diag()).abs().max() < 0.01


@pytest.mark.parametrize("shape", [(320, 80), (80, 320), (64, 64)])
def test_on_a_gpu_it_is_newton_and_schulz_s_iteration(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = sum(c * values**power for c, power in zip(COEFFICIENTS, (1, 3, 5), strict=True))
    expected = left @ values.diag() @ right
    found = by_products((matrix / matrix.norm()).float()).double()
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_what_is_not_finite_stays_so() -> None:
    assert not orthogonal(torch.full((4, 8), float("nan"))).isfinite().any()


def test_a_matrix_of_low_rank_or_of_zeros_stays_finite() -> None:
    low = torch.randn(80, 2) @ torch.randn(2, 320)
    values = torch.linalg.svdvals(orthogonal(low))
    assert ((values[:2] > 0.6) & (values[:2] < 1.3)).all()
    assert values[2:].max() < 0.01
    assert not orthogonal(torch.zeros(4, 8)).any()


@pytest.mark.parametrize("gpu", [True, False])
def test_it_steps_as_torch_s_does_and_takes_over_its_state(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu:
        monkeypatch.setattr(muon, "by_inverses", by_products)
    torch.manual_seed(0)
    theirs = nn.ParameterList([torch.randn(64, 16), torch.randn(16, 64)])
    ours, first = copy.deepcopy(theirs), copy.deepcopy(theirs)
    pair = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.5), Muon(ours, lr=0.02, weight_decay=0.5)
    for step in range(6):
        for a, b in zip(theirs, ours, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in pair:
            optimizer.step()
        if step == 2:
            pair[1].load_state_dict(pair[0].state_dict())
    for a, b, start in nonempty(zip(theirs, ours, first, strict=True)):
        # bf16's rounding of so small matrices, and on a CPU how far either is from orthogonal.
        assert (a - b).norm() < (0.05 if gpu else 0.2) * (a - start).norm()
        torch.testing.assert_close(pair[0].state[a]["momentum_buffer"], pair[1].state[b]["momentum_buffer"])


def test_matrices_of_one_shape_step_together_as_they_do_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU; here it is told that all of them are of one shape."""
    monkeypatch.setattr(muon, "by_inverses", by_products)
    torch.manual_seed(0)
    start = [torch.randn(48, 16) for _ in range(3)]
    gradients = [[torch.randn(48, 16) for _ in start] for _ in range(2)]
    stepped = []
    for together in (True, False):
        monkeypatch.setattr(muon, "batches", lambda p: [p]) if together else monkeypatch.undo()
        monkeypatch.setattr(muon, "by_inverses", by_products)
        weights = [nn.Parameter(matrix.clone()) for matrix in start]
        optimizer = Muon(weights, lr=0.1)
        for number, of_step in enumerate(gradients):
            optimizer.found_inf = torch.tensor(float(number == 1))
            for weight, gradient in zip(weights, of_step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        stepped.append([*weights, *(optimizer.state[weight]["momentum_buffer"] for weight in weights)])
    for alone, as_one in zip(*stepped, strict=True):
        torch.testing.assert_close(alone, as_one, rtol=0, atol=2e-3)
    assert max(float((a - b).detach().abs().max()) for a, b in zip(stepped[0], start, strict=False)) > 0.01


def test_matrices_are_together_by_shape_up_to_a_size() -> None:
    side = int((TOGETHER / 2) ** 0.5)
    small, other, large = (nn.Parameter(torch.empty(n, m, device="meta")) for n, m in ((4, 8), (8, 4), (side, side)))
    found = batches([small, other, large, small, large, large, small])
    assert [[p.shape[0] for p in alike] for alike in found] == [[4, 4, 4], [8], [side, side], [side]]
    assert [len(alike) for alike in batches([nn.Parameter(torch.empty(4, 8)) for _ in range(2)])] == [1, 1]


def test_a_convolution_is_a_matrix_of_its_outputs() -> None:
    flat = nn.Parameter(torch.randn(8, 36))
    convolution = nn.Parameter(flat.detach().clone().view(8, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    optimizer = Muon([flat, convolution], lr=0.02)
    for _ in range(3):
        flat.grad = torch.randn(8, 36)
        convolution.grad = flat.grad.clone().view(8, 4, 3, 3)
        optimizer.step()
    torch.testing.assert_close(convolution.flatten(1), flat)


def test_weights_that_are_split_among_processes_step_as_whole_ones_do() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = str(Path(__file__).with_name("split_muon.py"))
    done = subprocess.run([*launcher, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_parameter_without_a_gradient_is_left_alone_and_a_closure_is_called() -> None:
    moved, still = nn.Parameter(torch.eye(4)), nn.Parameter(torch.eye(4))
    optimizer = Muon([moved, still], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (moved**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert not torch.equal(moved, torch.eye(4))
    assert torch.equal(still, torch.eye(4))


def test_a_step_that_is_left_out_changes_nothing() -> None:
    """As fused optimizers are told, by a tensor: the gradient may hold anything then."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 4))
    optimizer, found = Muon([weight], lr=0.1), []
    for nonfinite, gradient in ((0.0, 1.0), (1.0, float("nan")), (0.0, 2.0)):
        optimizer.found_inf = torch.tensor(nonfinite)
        weight.grad = torch.full_like(weight, gradient)
        before = weight.detach().clone()
        optimizer.step()
        assert torch.equal(before, weight) == bool(nonfinite)
        found.append(optimizer.state[weight]["momentum_buffer"].clone())
    assert torch.equal(found[0], found[1])
    assert weight.isfinite().all()
