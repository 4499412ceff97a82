"""Charts show the figures they are given: each point, in its panel, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convnext.analysis import plots
from convnext.analysis.subgroups import GroupMetrics


def lines_of(axes: Axes) -> dict[Any, list[tuple[float, float]]]:
    return {line.get_label(): list(zip(*map(list, line.get_data()), strict=True)) for line in axes.get_lines()}


@pytest.mark.parametrize("probes", [True, False])
def test_pretraining(probes: bool, charts: list[Figure], tmp_path: Path) -> None:
    probed = {"knn": 40.0, "linear_probe": 50.0} if probes else {}
    rows = [{"epoch": 1, "loss": 0.9, "lr": 0.1}, {"epoch": 2, "loss": 0.7, "lr": 0.2, **probed}]
    plots.plot_pretraining(rows, tmp_path / "x.png")
    loss, lr, *others = charts[0].axes
    assert list(lines_of(loss).values()) == [[(1, 0.9), (2, 0.7)]]
    assert list(lines_of(lr).values()) == [[(1, 0.1), (2, 0.2)]]
    assert [lines_of(axes) for axes in others] == ([{"knn": [(2, 40)], "linear_probe": [(2, 50)]}] if probes else [])


def test_blocks_of_networks_of_any_depth_lie_between_0_and_1(charts: list[Figure], tmp_path: Path) -> None:
    plots.plot_distances({"deep": [3.0, 1, 2], "flat": [4.0]}, tmp_path / "x.png")
    (axes,) = charts[0].axes
    assert lines_of(axes) == {"deep": [(0, 3), (0.5, 1), (1, 2)], "flat": [(0, 4)]}
    assert axes.get_title() == "feature cosine distance"
    assert axes.get_legend() is not None


def test_a_spread_is_its_median_and_its_quarters(charts: list[Figure], tmp_path: Path) -> None:
    """Values that are not known do not count."""
    values = [torch.tensor([0.0, 1, 2, 3, 4, float("nan")]), torch.tensor([5.0] * 3)]
    plots.plot_selectivity({"one": values}, tmp_path / "x.png")
    (axes,) = charts[0].axes
    assert lines_of(axes) == {"one": [(0, 2), (1, 5)]}
    band = axes.collections[0].get_paths()[0].vertices
    assert {(x, y) for x, y in band.tolist()} == {(0, 1), (0, 3), (1, 5)}
    assert axes.get_legend() is None


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (5, (1, 5)), (7, (2, 5))])
def test_robustness_has_a_panel_for_each_corruption(
    count: int, grid: tuple[int, int], charts: list[Figure], tmp_path: Path
) -> None:
    """Each line begins with the clean images, and places without a corruption are empty."""
    corruptions = [f"noise_{i}" for i in range(count)]
    rows = [(name, severity, 10.0 * i + severity) for i, name in enumerate(corruptions) for severity in (3, 1)]
    plots.plot_robustness({"run": [("none", 0, 99.0), *rows], "other": rows}, "top1", tmp_path / "x.png")
    panels = charts[0].axes
    assert panels[0].get_gridspec().get_geometry() == grid
    assert [axes.get_title() for axes in panels if axes.get_visible()] == [f"noise {i}" for i in range(count)]
    for i, axes in enumerate(panels[:count]):
        points = [(1, 10.0 * i + 1), (3, 10.0 * i + 3)]
        assert lines_of(axes) == {"run": [(0, 99), *points], "other": points}
    assert [text.get_text() for text in charts[0].legends[0].get_texts()] == ["run", "other"]


def test_groups_have_their_intervals(charts: list[Figure], tmp_path: Path) -> None:
    groups = [
        GroupMetrics("site", "a", 30, {"top1": 80.0}, {"top1": (70.0, 88.0)}, {}),
        GroupMetrics("site", "b", 3, {"top1": 60.0}, {}, {}),
        GroupMetrics("site", "c", 9, {"other": 1.0}, {}, {}),
    ]
    plots.plot_groups(groups, "top1", tmp_path / "x.png")
    (axes,) = charts[0].axes
    assert list(lines_of(axes).values()) == [[(80, 0)], [(70, 0), (88, 0)], [(60, 1)]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["site: a (30)", "site: b (3)"]
    first, _, second = axes.get_lines()
    assert first.get_color() != second.get_color() == "grey"


def test_of_thousands_of_groups_the_largest_are_drawn(charts: list[Figure], tmp_path: Path) -> None:
    groups = [GroupMetrics("site", str(n), 1 + n % 1000, {"top1": 80.0}, {}, {}) for n in range(3000)]
    plots.plot_groups(groups, "top1", tmp_path / "x.png")
    labels = [text.get_text() for text in charts[0].axes[0].get_yticklabels()]
    assert len(labels) == plots.MOST_DRAWN
    assert labels[0] == "site: 933 (934)"
    assert min(int(label.split("(")[1].rstrip(")")) for label in labels) == 934


def test_sizes_rise(charts: list[Figure], tmp_path: Path) -> None:
    plots.plot_sizes({"run": [(224, 70.0), (128, 60.0)]}, "top1", tmp_path / "x.png")
    (axes,) = charts[0].axes
    assert lines_of(axes) == {"run": [(128, 60), (224, 70)]}
    assert (axes.get_ylabel(), axes.get_legend()) == ("top1, %", None)
