import pytest

from convnext.train.schedule import cosine


def rate(epoch: float) -> float:
    return cosine(epoch, peak=1.0, final=0.1, epochs=10, warmup_epochs=2)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0), (1, 0.5), (2, 1.0), (6, 0.55), (10, 0.1)])
def test_warm_up_is_linear_and_the_rest_half_a_cosine(epoch: float, expected: float) -> None:
    assert rate(epoch) == pytest.approx(expected)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert cosine(0, peak=3.0, final=0, epochs=10, warmup_epochs=0) == 3.0
