"""Sentences on the results of a detection run: the metrics, and where the model is worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnext.data.sources.annotated import DetectionSet
from convnext.printing import counted, quoted
from convnext.tasks.detect.metrics import KINDS, coco_metrics, has_objects, per_category
from convnext.tasks.weakest import unmeasured, well_measured

SIZED = {
    "APs": "small objects (under 32² pixels)",
    "APm": "medium objects (32² to 96² pixels)",
    "APl": "large objects (from 96² pixels)",
}
"""COCO's sizes, by the figure that is measured on them."""


def precision_in_words(metrics: Mapping[str, float], images: int) -> str:
    """Sentence on the metrics that `metrics_of` computed on this number of validation images."""
    names = [name for name in KINDS if f"{name}_AP" in metrics]
    if not names:
        return "val has no objects: nothing was measured"
    strict, loose = (
        ", ".join(f"{metrics[f'{name}_{figure}']:.2f} % ({name}_{figure})" for name in names)
        for figure in ("AP", "AP50")
    )
    where = counted(images, "validation image")
    return f"average precision {strict} on {where}; {loose} where an overlap of half counts as found"


def weakest_objects(evaluations: Mapping[str, Any], data: DetectionSet) -> str:
    """The class of the lowest average precision, and the size.

    Args:
        evaluations: of masks and boxes, or of boxes alone; the first counts. None for one in which nothing was found.
        data: what was measured.
    """
    if not has_objects(data):
        return "not known: val has no objects"
    name, evaluation = next(iter(evaluations.items()))
    if evaluation is None:
        return f"everything: nothing was found in {counted(len(data), 'validation image')}"
    rows = per_category(evaluation, data)
    whole = _weakest_class(rows, f"{name}_AP", classes=len(data.classes))
    sized = _weakest_size(coco_metrics(evaluation), f"{name}_AP")
    return f"{whole}{sized}{unmeasured(len(data.classes) - len(rows), len(data.classes))}"


def _weakest_class(rows: list[dict[str, Any]], figure: str, *, classes: int) -> str:
    """The weakest class of the table's rows, in words."""
    if len(rows) == 1:
        only = "the only class" if classes == 1 else "the only class with validation objects"
        return f"{quoted(rows[0]['category'])} is {only}: {figure} {rows[0]['AP']:.3g} %"
    values = {row["AP"] for row in rows}
    if values == {100}:
        return f"nothing: {figure} 100 % of every class"
    if len(values) == 1:
        return f"no class is weaker than another: {figure} {rows[0]['AP']:.3g} % of each"
    # Where classes that are measured well have no fault, those with few objects have the faults there are.
    places = [i for i in well_measured([row["objects"] for row in rows]) if rows[i]["AP"] < 100] or range(len(rows))
    worst = min((rows[i] for i in places), key=lambda row: (row["AP"], -row["objects"]))
    measured = f"{figure} {worst['AP']:.3g} % on {counted(worst['objects'], 'object')}"
    return f"{quoted(worst['category'])} has the lowest average precision, {measured}"


def _weakest_size(figures: Mapping[str, float], figure: str) -> str:
    """The end of a sentence on the sizes that were measured."""
    measured = {what: figures[name] for name, what in SIZED.items() if figures[name] >= 0}
    if not measured:
        return ""
    if len(measured) == 1:
        return f"; all are {next(iter(measured))}"
    what, value = min(measured.items(), key=lambda pair: pair[1])
    if value == max(measured.values()):
        return "; no size is weaker than another"
    return f"; of the sizes, {what} have the lowest, {figure} {100 * value:.3g} %"
