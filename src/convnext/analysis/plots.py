"""Plots of a pre-training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from convnext.reports.plots import BLUE, ORANGE, save


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


def plot_distances(distances: Sequence[float], path: Path) -> None:
    """Feature cosine distance over the layers, as in figure 4 of ConvNeXt V2."""
    figure = Figure(figsize=(5, 3.2))
    axes = figure.subplots()
    axes.plot([i / max(1, len(distances) - 1) for i in range(len(distances))], distances, color=BLUE, marker=".")
    axes.set(xlabel="normalised layer index", title="feature cosine distance", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
