"""Measuring trained models at other image sizes: what `convnext analyze resolution` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convnext.analysis.page import write_section
from convnext.analysis.plots import plot_sizes
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.splits import Split
from convnext.errors import InputError
from convnext.printing import progress
from convnext.reports.tables import Table
from convnext.runtime.device import Precision
from convnext.tasks.evaluate import ClassChoice, open_measurement, refuse_several_tasks

FACTORS = (0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
"""Sizes that are measured, as shares of the training size."""


def resolution(
    sources: Sequence[str],
    data: str,
    out: Path,
    *,
    factors: Sequence[float] = FACTORS,
    images: int | None = None,
    split: Split | None = None,
    classes: ClassChoice | None = None,
    format: str | None = None,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "fp32",
    backend: str | None = None,
) -> list[dict[str, Any]]:
    """Measure models at other sizes than they were trained at: `resolution.csv`, `resolution.png`, and a section of
    `index.html`.

    Args:
        sources: run directories, weight files, published names or exported files.
        data: labelled images, as the task's training takes them.
        out: folder that is written.
        factors: sizes as shares of the training size.
        images: how many, spread over the data; None is all.
        split: part of the data; None: what they hold out, else all.
        classes: as `evaluate` takes them, likewise the following.
        format: form of the data, where they are of several.
        batch_size: images measured together.
        workers: processes that load images.
        device: where to compute.
        precision: type that is computed in.
        backend: engine.

    Returns:
        A row for each source and size: the metric, and images a second with loading and measuring.
    """
    if not factors or not min(factors) > 0:
        raise InputError("sizes are positive shares of the training size")
    table, rows = Table(out, "resolution.csv"), []
    how: dict[str, Any] = {"device": device, "precision": precision, "backend": backend}
    how |= {"classes": classes, "format": format}
    # All are opened before the first is measured: a mistyped name is said at once.
    models = [open_measurement(source, data, split, **how).thinned(images) for source in dict.fromkeys(sources)]
    refuse_several_tasks(models)
    with progress("sizes", len(models) * len(factors)) as advance:
        for model in models:
            seen = model.predictor.transform
            trained = seen.image_size if isinstance(seen, Preprocessing) else seen.short
            for factor in factors:
                size = max(1, round(factor * trained))
                model.predictor.transform = seen
                model.predictor.see(size)
                began = time.perf_counter()
                metrics = model.metrics(batch_size, workers)
                speed = len(model.part) / (time.perf_counter() - began)
                name = model.evaluator.main_metric(metrics)
                figures = {"metric": name, "value": metrics[name], "images_per_s": speed}
                rows.append({"source": model.source, "factor": factor, "size": size, **figures})
                table.write(rows)  # now: where a larger size does not fit into memory, these are kept
                advance()
    lines = {s: [(row["size"], row["value"]) for row in rows if row["source"] == s] for s in dict.fromkeys(sources)}
    metric = ", ".join(dict.fromkeys(row["metric"] for row in rows))
    plot_sizes(lines, metric, out / "resolution.png")
    write_section(
        out,
        "resolution",
        title="Resolution",
        reading="The metric in percent at other sizes than the model was trained at, and the speed with loading and "
        "measuring: often the best size is above that of training.",
        pictures=[("resolution.png", f"{metric} by image size, a line for each model")],
        rows=rows,
    )
    return rows
