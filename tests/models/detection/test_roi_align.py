"""RoIAlign of a pyramid against torchvision's: values, gradients, and regions that lie anywhere."""

import pytest
import torch
from vacuous import nonempty

from convnext.models.detection.roi_align import ROI_ALIGN_SOURCE, STRIDES, RegionPool, torchvision_pool
from convnext.native import compile as build

SIZE = (200, 264)


def pyramid(channels: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, channels, -(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in STRIDES]
    return {
        str(i): torch.randn(shape, generator=generator).to(dtype).requires_grad_() for i, shape in enumerate(shapes)
    }


def regions() -> list[torch.Tensor]:
    """Of every level, in, across and beyond the images' edges, and without area."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(60, 2, generator=generator) * 300 - 40
    side = torch.rand(60, 2, generator=generator) ** 3 * 800
    special = torch.tensor([[0.0, 0, 264, 200], [10, 10, 10, 10], [400, 400, 500, 500], [-90, -80, -70, -60]])
    boxes = torch.cat([torch.cat([corner, corner + side], dim=1), special])
    return [boxes[:40], boxes[40:]]


def elsewhere(side: int, maps: dict[str, torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
    """By torchvision's operator."""
    image = torch.repeat_interleave(torch.arange(len(boxes)), torch.tensor([len(each) for each in boxes]))
    level = RegionPool(side).level_of(boxes).clamp(0, len(STRIDES) - 1)
    return torchvision_pool(side, torch.cat(boxes), image, level, list(maps.values()))


@pytest.mark.parametrize("built", [True, False])
def test_what_is_pooled_lies_in_the_region(built, monkeypatch):
    if not built:
        monkeypatch.setattr(build, "library", lambda source: None)
    columns = {name: torch.arange(x.shape[3]).add(0.5).expand(x.shape) for name, x in pyramid(1).items()}
    maps = {name: x * stride for (name, x), stride in zip(columns.items(), STRIDES, strict=True)}  # in pixels
    boxes = torch.tensor([[20.0, 30, 34, 44], [8.3, 9, 22.3, 100], [16, 16, 240, 184]])
    middles = RegionPool(7)(maps, [boxes])[:, 0, 3, 3]
    torch.testing.assert_close(middles, (boxes[:, 0] + boxes[:, 2]) / 2)


@pytest.mark.parametrize("side", [7, 14])
@pytest.mark.parametrize("channels", [1, 64, 72])
def test_values_and_gradients_are_torchvisions(side, channels):
    assert build.library(ROI_ALIGN_SOURCE) is not None, "the tests need a C compiler with OpenMP"
    found, expected = [], []
    for results, pool in ((found, RegionPool(side)), (expected, lambda *given: elsewhere(side, *given))):
        maps = pyramid(channels)
        pooled = pool(maps, regions())
        pooled.pow(2).sum().backward()
        results += [pooled, *(x.grad for x in maps.values())]
    assert found[0].shape == (64, channels, side, side)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(x.grad.abs().sum() > 0 for x in nonempty(maps.values()))  # every level was met


@pytest.mark.parametrize("threads", [2, 5])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    def results():
        maps = pyramid(24)
        pooled = RegionPool(7)(maps, regions())
        pooled.pow(2).sum().backward()
        return [pooled, *(x.grad for x in maps.values())]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = results()
    try:
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in nonempty(zip(one, results(), strict=True)))
    finally:
        torch.set_num_threads(before)


def test_other_types_come_back_as_they_were():
    pooled = RegionPool(7)(pyramid(8, torch.bfloat16), regions())
    expected = elsewhere(7, pyramid(8), regions())
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), expected, rtol=0.02, atol=0.02)


def test_what_is_not_a_number_harms_nothing_else():
    boxes = [*regions()]
    boxes[0] = boxes[0].clone()
    boxes[0][3] = float("nan")
    maps = pyramid(8)
    pooled = RegionPool(7)(maps, boxes)
    expected = RegionPool(7)(maps, regions())
    others = torch.arange(len(pooled)) != 3
    assert torch.equal(pooled[others], expected[others])


def test_without_a_compiler_or_regions_torchvision_does_it(monkeypatch):
    assert RegionPool(7)(pyramid(8), [torch.zeros(0, 4)] * 2).shape == (0, 8, 7, 7)
    monkeypatch.setattr(build, "library", lambda source: None)
    maps = pyramid(8)
    assert torch.equal(RegionPool(7)(maps, regions()), elsewhere(7, maps, regions()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_torchvision_is_not_given_what_it_dies_of(value):
    boxes = regions()
    boxes[0][3, 1] = value
    found, whole = (elsewhere(7, pyramid(4), each) for each in (boxes, regions()))
    others = torch.arange(len(whole)) != 3
    assert torch.equal(found[others], whole[others])


def test_sizes_are_checked_where_python_meets_c() -> None:
    features = {str(n): torch.randn(2, 4, 64 >> n, 64 >> n) for n in range(4)}
    boxes = [torch.tensor([[0.0, 0.0, 30.0, 30.0]])] * 2
    for side, maps, regions in (
        (65, features, boxes),
        (7, features, [*boxes, boxes[0]]),
        (7, {**features, "2": torch.randn(2, 5, 16, 16)}, boxes),
        (7, {**features, "3": torch.randn(2, 4, 0, 0)}, boxes),
    ):
        with pytest.raises(ValueError, match=r"regions|maps"):
            RegionPool(side)(maps, regions)
