"""The files a depth run ends with: its curves, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from convnext.errors import ImageError
from convnext.inference.depth import DepthEstimator
from convnext.reports.plots import BLUE, EXAMPLES, ORANGE, plot_measured, save
from convnext.tasks.depth.read import DepthSet


def write_depth_report(folder: Path, rows: Sequence[dict[str, Any]], estimator: DepthEstimator, data: DepthSet) -> None:
    """Write `curves.png` and `gallery.png` into `folder`."""
    plot_measured(rows, [("delta1", ORANGE, "-"), ("delta2", BLUE, "--")], folder / "curves.png")
    plot_depths(estimator, data, folder / "gallery.png")


def plot_depths(estimator: DepthEstimator, data: DepthSet, path: Path) -> None:
    """Some images, spread over the set, beside the truth and what was found, in the same colours."""
    shown = []
    for i in np.linspace(0, len(data) - 1, min(EXAMPLES, len(data))).round().astype(int).tolist():
        try:
            shown.append(data.open(i))
        except ImageError:
            continue
    if not shown:
        return
    figure = Figure(figsize=(10, 3 * len(shown)))
    panels = figure.subplots(len(shown), 3, squeeze=False)
    for row, (image, truth) in zip(panels, shown, strict=True):
        known = np.where(truth > 0, truth, np.nan)
        colours = {"cmap": "magma_r", "vmin": np.nanmin(known), "vmax": np.nanmax(known)}
        row[0].imshow(image)
        row[1].imshow(known, **colours)
        last = row[2].imshow(estimator(image), **colours)
        for axes, title in zip(row, ("image", "truth", "prediction"), strict=True):
            axes.set_title(title, fontsize=8)
            axes.axis("off")
        figure.colorbar(last, ax=row[2], fraction=0.04)
    figure.tight_layout()
    save(figure, path)
