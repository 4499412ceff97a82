"""The files a detection run ends with: how precise it is, class by class, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from convnext.data.images.decode import WHITE
from convnext.data.rle import to_masks
from convnext.data.sources.annotated import AnnotatedImage, DetectionSet
from convnext.errors import ImageError
from convnext.inference.detector import THRESHOLD
from convnext.inference.draw import Drawn, draw_objects
from convnext.reports.plots import BLUE, EXAMPLES, ORANGE, plot_measured, save, style_axes
from convnext.reports.tables import Table
from convnext.tasks.detect.data import open_annotated
from convnext.tasks.detect.metrics import Result, per_category


def write_detection_report(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    evaluations: dict[str, Any],
    data: DetectionSet,
    results: Sequence[Result],
    *,
    white: int = WHITE,
) -> None:
    """Write `curves.png`, `per_class.csv`, `precision_recall.png` and `gallery.png` into `folder`.

    `evaluations` are those of masks and boxes, or of boxes alone; the table is of the first. `white` is the value of
    16-bit images that is white.
    """
    styles = (("AP", "-"), ("AP50", "--"))
    kinds = zip(evaluations, (ORANGE, BLUE), strict=False)
    lines = [(f"{kind}_{name}", colour, style) for kind, colour in kinds for name, style in styles]
    plot_measured(rows, lines, folder / "curves.png")
    table = per_category(next(iter(evaluations.values())), data)
    if table:
        Table(folder, "per_class.csv").write(table)
    plot_precision(evaluations, folder / "precision_recall.png")
    plot_detections(data, results, folder / "gallery.png", white=white)


def plot_precision(evaluations: dict[str, Any], path: Path) -> None:
    """Precision over recall at overlaps of 0.5 and 0.75, the mean over the classes that have objects."""
    figure = Figure(figsize=(4.5 * len(evaluations), 3.6))
    panels = figure.subplots(1, len(evaluations), squeeze=False)[0]
    for axes, (name, evaluation) in zip(panels, evaluations.items(), strict=True):
        precision = None if evaluation is None else evaluation.eval["precision"][:, :, :, 0, -1]
        if precision is not None and (there := precision[0, 0] > -1).any():
            recalls = np.linspace(0, 1, precision.shape[1])
            for overlap, colour in ((0, ORANGE), (5, BLUE)):
                mean = precision[overlap][:, there].mean(1)
                axes.plot(recalls, mean, color=colour, label=f"overlap {0.5 + 0.05 * overlap:.2f}")
            axes.legend(frameon=False)
        axes.set(xlabel="recall", ylabel="precision", title=name, xlim=(0, 1), ylim=(0, 1.02))
        style_axes(axes)
    figure.tight_layout()
    save(figure, path)


def drawn_truth(image: AnnotatedImage, classes: Sequence[str]) -> list[Drawn]:
    """Annotated objects of an image, ready to be drawn."""
    masks = to_masks([a.outline for a in image.annotations if a.outline], image.width, image.height).bool().numpy()
    drawn = iter(masks)
    return [Drawn(classes[a.label], None, list(a.box), next(drawn) if a.outline else None) for a in image.annotations]


def plot_detections(data: DetectionSet, results: Sequence[Result], path: Path, *, white: int = WHITE) -> None:
    """Some images with the truth and, below, with what was found."""
    shown: list[tuple[int, AnnotatedImage, Image.Image]] = []
    for place in range(0, len(data), max(1, len(data) // EXAMPLES)):
        try:
            shown.append((place, data.images[place], open_annotated(data.images[place], white)))
        except ImageError:
            continue
    shown = shown[:EXAMPLES]
    if not shown:
        return
    figure = Figure(figsize=(3 * len(shown), 6.4))
    panels = figure.subplots(2, len(shown), squeeze=False)
    for column, (place, image, pixels) in enumerate(shown):
        truth = drawn_truth(image, data.classes)
        own = [row for row in results if row.image == place and row.score >= THRESHOLD]
        shapes = to_masks([row.mask for row in own if row.mask is not None], image.width, image.height).bool().numpy()
        found = [
            Drawn(data.classes[row.label], row.score, row.box, shapes[i] if len(shapes) else None)
            for i, row in enumerate(own)
        ]
        for axes, objects, title in zip(panels[:, column], (truth, found), ("truth", "found"), strict=True):
            axes.imshow(draw_objects(pixels, objects))
            axes.set_title(f"{title}: {len(objects)}", fontsize=8)
            axes.axis("off")
    figure.tight_layout()
    save(figure, path)
