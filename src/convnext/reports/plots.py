"""Pictures of a run: learning curves, confusion matrix, worst mistakes. Written as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from convnext.data.sources.maps import MappedSet
from convnext.errors import ImageError
from convnext.storage.files import whole_file

BLUE, ORANGE = "#2b6cb0", "#dd6b20"
EXAMPLES = 6  # images in the gallery of a dense task


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight")


def style_axes(axes: Axes, *, grid: Literal["both", "x"] = "both") -> None:
    """Give axes the look of all plots: faint lines of a grid, and no frame above and on the right."""
    axes.grid(alpha=0.3, axis=grid)
    axes.spines[["top", "right"]].set_visible(False)


def shown(name: str) -> str:
    """A name of a class or file as matplotlib shows it: not as a formula, and whatever bytes it is made of."""
    return name.encode("utf-8", "replace").decode().replace("$", r"\$")


def plot_curves(rows: Sequence[dict[str, Any]], score: str, path: Path) -> None:
    """Loss and `score`, where it was measured, over the epochs of a run's `metrics.jsonl`."""
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["loss"] for row in rows], color=BLUE, marker=".", label="train (augmented)")
    left.plot(*measured(rows, "val_loss"), color=ORANGE, marker=".", label="val")
    left.set(xlabel="epoch", title="loss")
    left.legend(frameon=False)
    right.plot(*measured(rows, score), color=ORANGE, marker=".")
    right.set(xlabel="epoch", title=f"{score} on val, %")
    for axes in (left, right):
        style_axes(axes)
    save(figure, path)


def measured(rows: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Epochs in which a figure was measured, and the figure."""
    found = [row for row in rows if name in row]
    return [row["epoch"] for row in found], [row[name] for row in found]


def plot_measured(rows: Sequence[dict[str, Any]], lines: Sequence[tuple[str, str, str]], path: Path) -> None:
    """Loss over the epochs, and the figures (name, colour, style) where they were measured."""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    left.plot([row["epoch"] for row in rows], [row["loss"] for row in rows], color=BLUE, marker=".")
    left.set(xlabel="epoch", title="loss, train (augmented)")
    for name, colour, style in lines:
        right.plot(*measured(rows, name), style, color=colour, marker=".", label=name.replace("_", " "))
    right.set(xlabel="epoch", title="on val, %")
    right.legend(frameon=False)
    for axes in (left, right):
        style_axes(axes)
    save(figure, path)


def plot_confusion(matrix: Tensor, classes: Sequence[str], path: Path, *, unit: str = "images") -> None:
    """True class down, predicted class across; cells show counts, or percents of pixels, while they can be read."""
    size = len(classes)
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    side = min(3 + 0.45 * size, 24)
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    if size <= 40:
        names = [shown(name) for name in classes]
        axes.set_xticks(range(size), names, rotation=60, ha="right")
        axes.set_yticks(range(size), names)
    if size <= 25:
        for i in range(size):
            for j in range(size):
                if matrix[i, j] and (unit == "images" or shares[i, j] >= 0.005):
                    text = str(int(matrix[i, j])) if unit == "images" else f"{100 * shares[i, j]:.0f}"
                    colour = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set(
        xlabel="predicted",
        ylabel="true",
        title=f"confusion matrix ({unit if unit == 'images' else '% of the true class'})",
    )
    save(figure, path)


def plot_map_gallery(
    data: MappedSet, draw: Callable[[Axes, Axes, Image.Image, np.ndarray], None], path: Path, *, white: int
) -> None:
    """Some images, spread over the set, each in a row with its map and what was predicted.

    `draw` puts these two on the second and third axes it is given, of an image and its map; `white` is the value of
    16-bit images that is white. No file where no image can be read.
    """
    opened = []
    for place in np.linspace(0, len(data) - 1, min(EXAMPLES, len(data))).round().astype(int).tolist():
        with suppress(ImageError):  # measuring has named it; the others are shown
            opened.append(data.open(place, white))
    if not opened:
        return
    figure = Figure(figsize=(10, 3 * len(opened)))
    panels = figure.subplots(len(opened), 3, squeeze=False)
    for row, (image, truth) in zip(panels, opened, strict=True):
        row[0].imshow(image)
        draw(row[1], row[2], image, truth)
        for axes, title in zip(row, ("image", "truth", "prediction"), strict=True):
            axes.set_title(title, fontsize=8)
            axes.axis("off")
    figure.tight_layout()
    save(figure, path)


def plot_gallery(images: Sequence[Image.Image], captions: Sequence[str], title: str, path: Path) -> None:
    """A grid of captioned images, six across."""
    rows = -(-len(images) // 6)
    figure = Figure(figsize=(12, 2.5 * rows + 0.4))
    figure.suptitle(title)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(rows, 6, place)
        axes.imshow(image, cmap="gray" if image.mode == "L" else None)
        axes.set_title(shown(caption), fontsize=8)
        axes.axis("off")
    figure.tight_layout()
    save(figure, path)
