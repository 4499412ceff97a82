import pytest

from convnext.train.schedule import cosine, linear, step_decay


def rate(epoch: float) -> float:
    return cosine(epoch, peak=1.0, final=0.1, epochs=10, warmup_epochs=2)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0), (1, 0.5), (2, 1.0), (6, 0.55), (10, 0.1)])
def test_warm_up_is_linear_and_the_rest_half_a_cosine(epoch: float, expected: float) -> None:
    assert rate(epoch) == pytest.approx(expected)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert cosine(0, peak=3.0, final=0, epochs=10, warmup_epochs=0) == 3.0


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0), (1, 0.5 * 0.91), (2, 0.82), (5, 0.55), (10, 0.1)])
def test_a_line_falls_from_the_first_step_on_under_its_warm_up(epoch: float, expected: float) -> None:
    assert linear(epoch, peak=1.0, final=0.1, epochs=10, warmup_epochs=2) == pytest.approx(expected)


def test_a_line_without_warm_up_starts_at_the_peak() -> None:
    assert linear(0, peak=3.0, final=0, epochs=10, warmup_epochs=0) == 3.0


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0), (0.5, 1.5), (1, 3.0), (3.99, 3.0), (4, 0.3), (5.99, 0.3), (6, 0.03), (9, 0.03)]
)
def test_steps_fall_to_a_tenth_after_each_milestone(epoch: float, expected: float) -> None:
    assert step_decay(epoch, peak=3.0, milestones=(4, 6), warmup_epochs=1) == pytest.approx(expected)
