"""Measuring trained models on corrupted images: what `convnext analyze robustness` does."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convnext.analysis.page import write_section
from convnext.analysis.plots import plot_robustness
from convnext.analysis.robustness import robustness_of
from convnext.data.corruptions import ALL, COMMON, SEVERITIES, Corruption, require_corruptions, seen_through
from convnext.data.fingerprint import of_part
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.splits import Split, part_of_name
from convnext.errors import InputError, nearest
from convnext.printing import progress
from convnext.reports.tables import Table
from convnext.runtime.device import Precision
from convnext.storage.exports import sha256_of_weights
from convnext.tasks.evaluate import ClassChoice, Measurement, open_measurement, refuse_several_tasks
from convnext.tasks.robustness_record import MEASUREMENTS_FILE, CorruptedMetric, Record
from convnext.weights.class_names import are_wordnet_ids
from convnext.weights.files import locate

CLEAN = "clean"


def robustness(
    sources: Sequence[str],
    data: str,
    out: Path,
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    images: int | None = None,
    split: Split | None = None,
    classes: ClassChoice | None = None,
    format: str | None = None,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "fp32",
    backend: str | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Measure models of one task under ImageNet-C's corruptions: `robustness.csv`, `robustness.png`, and a section of
    `index.html`. What was measured before an interruption is not measured again.

    What classifiers see is resized to the largest size that any of them resizes to, and then corrupted; what others
    see is corrupted as it is. Data that are corrupted already (`corrupted_folders`) are measured as they are.

    Args:
        sources: run directories, weight files, published names or exported files.
        data: labelled images, as the task's training takes them, or ImageNet-C's folders.
        out: folder that is written.
        corruptions: of `data.corruptions.ALL`; None: the common fifteen, or all that there are folders of.
        severities: from 1 to 5.
        images: how many, spread over the data; None is all.
        split: part of the data; None: what they hold out, else all.
        classes: as `evaluate` takes them, likewise the following.
        format: form of the data, where they are of several.
        batch_size: images measured together.
        workers: processes that load and corrupt images.
        device: where to compute.
        precision: type that is computed in.
        backend: engine.
        overwrite: begin anew, where `out` holds other measurements.

    Returns:
        For each source `analysis.robustness.Robustness` by name, over the common corruptions, and the mean metric under
        each corruption.

    Raises:
        InputError: sources of several tasks, unknown corruptions, or a folder with measurements of something else.
    """
    severities = tuple(dict.fromkeys(severities))
    corruptions = corruptions and tuple(dict.fromkeys(corruptions))
    folders = corrupted_folders(data)
    known = list(dict.fromkeys(name for name, _ in folders)) or list(ALL)
    for name in corruptions or ():
        if name not in known:
            raise InputError(f"there is no corruption '{name}'; {nearest(name, known)}")
    if not set(severities) <= set(SEVERITIES):
        raise InputError(f"severities are from 1 to 5, not {', '.join(map(str, severities))}")
    if folders:
        steps = [step for step in folders if step[1] in severities and step[0] in (corruptions or known)]
        if not steps:
            raise InputError(f"{data} has no folder of these corruptions at severity {', '.join(map(str, severities))}")
    else:
        require_corruptions()
        steps = [(CLEAN, 0), *((name, severity) for name in corruptions or COMMON for severity in severities)]
    table, summary = Table(out, "robustness.csv"), Table(out, "robustness-summary.csv")
    how: dict[str, Any] = {"device": device, "precision": precision, "backend": backend}
    how |= {"classes": classes, "format": format}
    first = str(folders[steps[0]]) if folders else data
    models = [open_measurement(source, first, split, **how).thinned(images) for source in dict.fromkeys(sources)]
    refuse_several_tasks(models)
    settings = {"data": data, "split": split, "images": len(models[0].part), "precision": precision, "classes": classes}
    settings |= {"digest": of_part(first, models[0].part)["digest"]}
    settings |= {name: value for name, value in (("format", format), ("backend", backend)) if value is not None}
    settings["short"] = short = short_side(models)
    weights = [digest_of(model) for model in models]
    record = Record(out / MEASUREMENTS_FILE, {**settings, "weights": weights}, overwrite)
    with progress("corruptions", len(steps)) as advance:
        for name, severity in steps:
            missing = [model for model in models if (model.source, name, severity) not in record.found]
            with keeping(len(missing) > 1 and not folders) as kept:
                corruption = Corruption(name, severity, short, kept) if severity and not folders else None
                for model in missing:
                    if folders:
                        model = model.on(str(folders[name, severity]), split).thinned(images)
                    metric, value = measure_corrupted(model, corruption, batch_size, workers)
                    record.add(CorruptedMetric(model.source, name, severity, metric, value))
            advance()
    wanted = [(model.source, *step) for model in models for step in steps]
    rows = [record.found[key] for key in wanted]
    table.write(row._asdict() for row in rows)
    found = [summary_of(model, rows) for model in models]
    summary.write(found)
    by_source = {model.source: [row for row in rows if row.source == model.source] for model in models}
    metric = ", ".join(dict.fromkeys(row.metric for row in rows))
    plot_robustness(
        {s: [(row.corruption, row.severity, row.value) for row in own] for s, own in by_source.items()},
        metric,
        out / "robustness.png",
    )
    write_section(
        out,
        "robustness",
        title="Robustness",
        reading=f"The metric ({metric}, in percent) as each corruption grows from severity 1 to 5; at 0 images "
        "are as they are. mean is over all corruptions and severities, kept is its share of the clean metric, and mce "
        "the error as a share of AlexNet's, where the classes are ImageNet's.",
        pictures=[("robustness.png", f"{metric} by severity, a panel for each corruption, a line for each model")],
        rows=found,
        measured=[row._asdict() for row in rows],
        **settings,
    )
    return found


def measure_corrupted(
    model: Measurement, corruption: Corruption | None, batch_size: int, workers: int
) -> tuple[str, float]:
    """The most important metric of a model, by name, of images that are corrupted first."""
    own = model.predictor.transform
    if corruption is not None:
        model.predictor.transform = seen_through(own, corruption)
    try:
        metrics = model.metrics(batch_size, workers)
    finally:
        model.predictor.transform = own
    name = model.evaluator.main_metric(metrics)
    return name, metrics[name]


def short_side(models: Sequence[Measurement]) -> int | None:
    """The side to which images are resized before they are corrupted: the largest that a classifier resizes to."""
    seen = [model.predictor.transform for model in models]
    sides = [math.floor(each.image_size / each.crop) for each in seen if isinstance(each, Preprocessing)]
    return max(sides, default=None)


def digest_of(model: Measurement) -> list[str]:
    """Key of a source's measurements: its name, and its weights' content."""
    return [model.source, sha256_of_weights(locate(model.source))]


@contextmanager
def keeping(several: bool) -> Iterator[Path | None]:
    """Inside, a folder for corrupted images that several models see; they take much room, and go with the block."""
    folder = Path(tempfile.mkdtemp(prefix="convnext-corrupted-")) if several else None
    try:
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def summary_of(model: Measurement, rows: Sequence[CorruptedMetric]) -> dict[str, Any]:
    """A model's row of the summary."""
    own = [row for row in rows if row.source == model.source]
    clean = next((row.value for row in own if row.corruption == CLEAN), None)
    values: dict[str, list[float]] = {}
    for row in own:
        if row.corruption != CLEAN:
            values.setdefault(row.corruption, []).append(row.value)
    common = {name: found for name, found in values.items() if name in COMMON} or values
    names = model.predictor.classes
    imagenet = own[0].metric == "top1" and len(names) == 1000 and are_wordnet_ids(names)
    figures = robustness_of(clean, common, imagenet=imagenet)
    means = {name: sum(found) / len(found) for name, found in values.items()}
    return {"source": model.source, "metric": own[0].metric, **figures._asdict(), **means}


def corrupted_folders(data: str) -> dict[tuple[str, int], Path]:
    """Folders of data that are corrupted already, by corruption and severity; empty for other data.

    They lie as ImageNet-C's and ImageNet-C-bar's do, `CORRUPTION/SEVERITY/CLASS/IMAGE`, perhaps in groups.
    """
    numbers = {str(severity) for severity in SEVERITIES}
    found: dict[tuple[str, int], Path] = {}
    tops = folders_in(Path(data))
    for folder in [*tops, *(below for top in tops for below in folders_in(top))]:
        below = folders_in(folder)
        if below and {path.name for path in below} <= numbers and part_of_name(folder.name) is None:
            found |= {(folder.name, int(path.name)): path for path in below}
    return found


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
