"""Plots of a pre-training run, and of what a network has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from convnext.analysis.subgroups import LEVEL, GroupMetrics
from convnext.reports.plots import BLUE, ORANGE, save, shown, style_axes


def plot_pretraining(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss and learning rate over the epochs, and the probes where there are any."""
    probed = [row for row in rows if "knn" in row]
    figure = Figure(figsize=(13 if probed else 9, 3.2))
    panels = figure.subplots(1, 3 if probed else 2)
    epochs = [row["epoch"] for row in rows]
    panels[0].plot(epochs, [row["loss"] for row in rows], color=BLUE)
    panels[0].set(title="loss on hidden patches")
    panels[1].plot(epochs, [row["lr"] for row in rows], color=BLUE)
    panels[1].set(title="learning rate")
    if probed:
        for name, colour in (("knn", BLUE), ("linear_probe", ORANGE)):
            panels[2].plot(
                [r["epoch"] for r in probed], [r[name] for r in probed], color=colour, marker=".", label=name
            )
        panels[2].set(title="top-1 on the probe's val, %")
        panels[2].legend(frameon=False)
    for axes in panels:
        axes.set(xlabel="epoch")
        style_axes(axes)
    save(figure, path)


def plot_distances(distances: Mapping[str, Sequence[float]], path: Path) -> None:
    """Feature distances of blocks over the depth of the network, a line for each name, as in figure 4 of
    ConvNeXt V2."""
    draw_over_blocks({name: (values, None) for name, values in distances.items()}, "feature cosine distance", path)


def plot_selectivity(spreads: Mapping[str, Sequence[Tensor]], path: Path) -> None:
    """The median of each block's class selectivity over the depth of the network, in a band from quarter to quarter."""
    quarters = {
        name: torch.stack(
            [values.nanquantile(torch.tensor([0.5, 0.25, 0.75], dtype=values.dtype)) for values in blocks]
        )
        for name, blocks in spreads.items()
    }
    draw_over_blocks(
        {name: (q[:, 0].tolist(), (q[:, 1], q[:, 2])) for name, q in quarters.items()}, "class selectivity", path
    )


def draw_over_blocks(curves: Mapping[str, tuple[Sequence[float], Any]], title: str, path: Path) -> None:
    """A line for each name, with a band about it where there is one."""
    figure = Figure(figsize=(7, 3.6))
    axes = figure.subplots()
    for name, (values, band) in curves.items():
        depth = [i / max(1, len(values) - 1) for i in range(len(values))]
        (line,) = axes.plot(depth, values, marker=".", label=shown(name))
        if band is not None:
            axes.fill_between(depth, *band, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="normalised layer index", title=title, ylim=(0, None))
    style_axes(axes)
    if len(curves) > 1:
        axes.legend(frameon=False)
    save(figure, path)


def plot_robustness(measured: Mapping[str, Sequence[tuple[str, int, float]]], metric: str, path: Path) -> None:
    """A metric by severity, a panel for each corruption and a line for each model.

    `measured` are (corruption, severity, value) of each model; severity 0, of images as they are, begins every line if
    there is one.
    """
    names = list(dict.fromkeys(name for rows in measured.values() for name, severity, _ in rows if severity))
    across = min(5, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.6 * across + 0.5, 2.1 * down + 0.6), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        for source, rows in measured.items():
            points = sorted((severity, value) for own, severity, value in rows if own == name or not severity)
            axes.plot(*zip(*points, strict=True), marker=".", label=shown(source))
        axes.set_title(name.replace("_", " "), fontsize=9)
        style_axes(axes)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("severity", fontsize=9)
    figure.supylabel(f"{metric}, %", fontsize=9)
    if len(measured) > 1:
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside upper center", frameon=False)
    save(figure, path)


MOST_DRAWN = 200
"""Groups in a picture, at most: of thousands, none could be read, and a picture has at most 65,535 rows of pixels."""


def plot_groups(groups: Sequence[GroupMetrics], metric: str, path: Path) -> None:
    """A metric of each group, with its interval where it has one, groups of a column together; the largest `MOST_DRAWN`
    of them."""
    there = [group for group in groups if metric in group.metrics]
    largest = sorted(range(len(there)), key=lambda place: -there[place].images)[:MOST_DRAWN]
    shown_groups = [there[place] for place in sorted(largest)]
    figure = Figure(figsize=(7, 0.9 + 0.26 * len(shown_groups)), layout="constrained")
    axes = figure.subplots()
    for place, group in enumerate(shown_groups):
        value = group.metrics[metric]
        axes.plot(value, place, "o", color=BLUE if group.intervals else "grey")
        if metric in group.intervals:
            axes.plot(group.intervals[metric], [place, place], color=BLUE)
    names = [shown(f"{group.by}: {group.group} ({group.images})") for group in shown_groups]
    axes.set_yticks(range(len(shown_groups)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel=f"{metric}; lines are {LEVEL} % intervals, grey groups are too small for one")
    style_axes(axes, grid="x")
    save(figure, path)


def plot_sizes(measured: Mapping[str, Sequence[tuple[int, float]]], metric: str, path: Path) -> None:
    """A metric by image size in pixels, a line for each model."""
    figure = Figure(figsize=(6, 3.6))
    axes = figure.subplots()
    for source, points in measured.items():
        axes.plot(*zip(*sorted(points), strict=True), marker=".", label=shown(source))
    axes.set(xlabel="image size, pixels", ylabel=f"{metric}, %")
    style_axes(axes)
    if len(measured) > 1:
        axes.legend(frameon=False)
    save(figure, path)
