"""The files a segmentation run ends with: how right it is, class by class, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image

from convnext.data.sources.label_maps import SegmentationSet
from convnext.inference.draw import draw_labels
from convnext.inference.segmenter import Segmenter
from convnext.reports.plots import BLUE, ORANGE, plot_confusion, plot_map_gallery, plot_measured
from convnext.reports.tables import Table
from convnext.tasks.segment.metrics import iou_per_class


def write_segmentation_report(
    folder: Path, rows: Sequence[dict[str, Any]], matrix: np.ndarray, segmenter: Segmenter, data: SegmentationSet
) -> None:
    """Write `curves.png`, `per_class.csv`, `confusion.png` and `gallery.png` into `folder`."""
    plot_measured(rows, [("mIoU", ORANGE, "-"), ("pixel_accuracy", BLUE, "-")], folder / "curves.png")
    values = iou_per_class(matrix)
    columns = zip(data.classes, matrix.sum(1), values["iou"], values["accuracy"], strict=True)
    Table(folder, "per_class.csv").write(
        {"class": name, "pixels": int(pixels), "iou": _percent(iou), "accuracy": _percent(accuracy)}
        for name, pixels, iou, accuracy in columns
    )
    plot_confusion(torch.from_numpy(matrix), data.classes, folder / "confusion.png", unit="pixels")
    plot_label_maps(segmenter, data, folder / "gallery.png")


def _percent(share: float) -> float | str:
    """A figure of a class as text; nothing for one that has none."""
    return "" if np.isnan(share) else round(100 * float(share), 2)


def plot_label_maps(segmenter: Segmenter, data: SegmentationSet, path: Path) -> None:
    """Some images, spread over the set, beside the truth and what was found."""

    def draw(truth_axes: Axes, predicted_axes: Axes, image: Image.Image, truth: np.ndarray) -> None:
        truth_axes.imshow(draw_labels(image, truth, data.classes))
        predicted_axes.imshow(draw_labels(image, segmenter(image), data.classes))

    plot_map_gallery(data, draw, path, white=segmenter.transform.white)
