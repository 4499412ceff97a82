"""Plots of a pre-training run, and of what a network has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from convnext.reports.plots import BLUE, ORANGE, save, shown


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
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def plot_over_blocks(curves: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """A figure of each block over the depth of the network, a line for each name, as in figure 4 of ConvNeXt V2."""
    draw_over_blocks({name: (values, None) for name, values in curves.items()}, title, path)


def plot_spread(spreads: Mapping[str, Sequence[Tensor]], title: str, path: Path) -> None:
    """The median of each block's values over the depth of the network, in a band from quarter to quarter."""
    quarters = {
        name: torch.stack(
            [values.nanquantile(torch.tensor([0.5, 0.25, 0.75], dtype=values.dtype)) for values in blocks]
        )
        for name, blocks in spreads.items()
    }
    draw_over_blocks({name: (q[:, 0].tolist(), (q[:, 1], q[:, 2])) for name, q in quarters.items()}, title, path)


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
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False)
    save(figure, path)
