"""The files a depth run ends with: its curves, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from convnext.data.sources.depth_maps import DepthSet
from convnext.inference.depth import DepthEstimator
from convnext.reports.plots import BLUE, ORANGE, plot_map_gallery, plot_measured


def write_depth_report(folder: Path, rows: Sequence[dict[str, Any]], estimator: DepthEstimator, data: DepthSet) -> None:
    """Write `curves.png` and `gallery.png` into `folder`."""
    plot_measured(rows, [("delta1", ORANGE, "-"), ("delta2", BLUE, "--")], folder / "curves.png")
    plot_depths(estimator, data, folder / "gallery.png")


def plot_depths(estimator: DepthEstimator, data: DepthSet, path: Path) -> None:
    """Some images, spread over the set, beside the truth and what was found, in the same colours."""

    def draw(truth_axes: Axes, predicted_axes: Axes, image: Image.Image, truth: np.ndarray) -> None:
        known = np.where(truth > 0, truth, np.nan)
        colours: dict[str, Any] = {"cmap": "magma_r", "vmin": np.nanmin(known), "vmax": np.nanmax(known)}
        truth_axes.imshow(known, **colours)
        last = predicted_axes.imshow(estimator(image), **colours)
        predicted_axes.figure.colorbar(last, ax=predicted_axes, fraction=0.04)

    plot_map_gallery(data, draw, path, white=estimator.transform.white)
