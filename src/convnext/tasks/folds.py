"""The answers of a cross-validation in one table: each image's by the model that was not trained on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from convnext.errors import InputError
from convnext.reports.tables import Table
from convnext.runs.directory import Run
from convnext.tasks.evaluate import Evaluator, Rows, open_measurement
from convnext.tasks.supervised import EVAL_BATCH


def measure_folds(runs: Sequence[Path], data: str, out: Path, *, workers: int, device: str) -> dict[str, Any]:
    """Measure each run on what it held out of `data`, and all of these answers together.

    Writes the tables of `convnext evaluate` into `out`, with a column `fold`. Returns "folds" (of each its "run",
    "images" and "metrics"), "mean" and "deviation" of the metrics over the folds, their "lowest" and "highest", "union"
    (the metrics of all images together), the number of "images", and the most important "metric". Of classifiers,
    "images" are those that can be read, and the others "unreadable".

    Raises:
        InputError: a run was trained on other data.
    """
    answers: list[Any] = []
    parts: list[Any] = []
    before = 0  # images of the folds before
    folds: list[dict[str, Any]] = []
    tables: list[list[dict[str, Any]]] = []
    columns: list[Sequence[str] | None] = []
    evaluator: Evaluator
    for number, run in enumerate(runs, start=1):
        config = Run(run).read_config()
        measured = open_measurement(str(run), data, device=device, format=config.get("format"))
        evaluator, part = measured.evaluator, measured.part
        if measured.split != "val":
            raise InputError(f"{run} was trained on other data than {data}")
        own = measured.answers(min(EVAL_BATCH, 8 * config["batch_size"]), workers)
        metrics = _numbers(evaluator.metrics(measured.predictor, own, part))
        folds.append({"fold": number, "run": run.name, **evaluator.counts(own, part), "metrics": metrics})
        answers.append(evaluator.shifted(own, before))
        parts.append(part)
        before += len(part)
        _add_rows(tables, columns, evaluator.rows(own, part), number)
    for name, rows, named in zip(evaluator.tables, tables, columns, strict=True):
        Table(out, name).write(rows, None if named is None else [*named, "fold"])
    joined, every = evaluator.merge(answers), parts[0].joined(parts[1:])
    union = _numbers(evaluator.metrics(measured.predictor, joined, every))
    return {
        "folds": folds,
        **_spread([fold["metrics"] for fold in folds]),
        "union": union,
        **evaluator.counts(joined, every),
        "metric": evaluator.main_metric(union),
    }


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _add_rows(
    tables: list[list[dict[str, Any]]], columns: list[Sequence[str] | None], found: Sequence[Rows], fold: int
) -> None:
    for place, (rows, named) in enumerate(found):
        if place == len(tables):
            tables.append([])
            columns.append(named)
        tables[place] += [{**row, "fold": fold} for row in rows]


def _spread(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and so on of the metrics that all folds have."""
    names = [name for name in metrics[0] if all(name in own for own in metrics)]
    values = {name: [own[name] for own in metrics] for name in names}
    measures: dict[str, Callable[[list[float]], float]]
    measures = {"mean": fmean, "deviation": stdev, "lowest": min, "highest": max}
    return {kind: {name: round(of(own), 6) for name, own in values.items()} for kind, of in measures.items()}
