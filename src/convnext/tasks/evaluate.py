"""Measuring a trained model on data: what every task does alike, and what each has to say for itself."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from PIL import Image

from convnext.config import TrainConfig
from convnext.data.exclude import ExcludeList, read_exclude
from convnext.data.splits import Split
from convnext.errors import InputError
from convnext.printing import shown_name
from convnext.reports.tables import Table
from convnext.runs.directory import Run, is_run
from convnext.runs.facts import are_own_figures
from convnext.runtime import distributed
from convnext.runtime.device import Precision, autocast, keep_fp32, pick_device
from convnext.tasks.load import load_answering, steady_backend, task_of_weights
from convnext.tasks.subgroups import group_columns, groups_stored, measure_subgroups, write_subgroups
from convnext.weights.calibration import CALIBRATION
from convnext.weights.files import locate, store_meta

log = logging.getLogger("convnext")

COSTLIEST_LISTED, COSTLIEST_NAMED = 100, 5
"""Images of the highest cost that are listed, and that the figures name."""

ClassChoice = Literal["model", "data"]


class Rows(NamedTuple):
    """Contents of a table: its rows, and its columns where they are not those of the first row."""

    rows: Iterable[dict[str, Any]]
    columns: Sequence[str] | None = None


class Evaluator(ABC):
    """How a task is measured, in training and by `convnext evaluate`.

    A predictor answers for batches of a part of the data, in each process for another share; the shares are merged in
    the part's order, on which metrics therefore do not depend.
    """

    config: ClassVar[type[TrainConfig]]
    main_metrics: ClassVar[tuple[str, ...]] = ()
    """Names of the most important metrics, in percent: the first of these that is measured is the main one."""
    resamples: ClassVar[int] = 1000
    """Resamples of a group's images from which its intervals are."""
    tables: ClassVar[tuple[str, ...]] = ("images.csv",)
    """Files that `rows` fills."""
    has_report: ClassVar[bool] = False
    """Whether `write_report` writes anything."""
    has_formats: ClassVar[bool] = False
    """Whether data may be of several forms at once, and `--format` says which is read."""
    format: str | None = None
    """Form of the data that is measured; None: what there is."""
    compares_all: bool = True
    """Whether answers are among all of the model's classes; `choose_classes` may change it."""
    exclude: ExcludeList | None = None
    """Images that are not measured; set before `held_out`."""

    def choose_format(self, form: str | None) -> None:
        """Read data of this form alone; before `held_out`. `InputError` for a task that has none."""
        if form is not None and not self.has_formats:
            raise InputError("--format is for detectors, segmenters and classifiers")
        self.format = form

    def choose_classes(self, predictor: Any, data: str, choice: ClassChoice | None) -> None:
        """Compare the answers among the model's classes, or those of `data` alone; before `held_out`.

        `InputError` for a choice that a task does not have.
        """
        if choice is not None:
            raise InputError(f"--classes {choice} is for classifiers")

    @abstractmethod
    def held_out(self, source: str, predictor: Any, data: str, split: Split | None) -> tuple[Any, str]:
        """Part of `data` that is measured, and its name. `InputError` where the data has other classes."""

    @abstractmethod
    def batches(
        self, predictor: Any, part: Any, *, batch_size: int, workers: int, rank: int = 0, count: int = 1
    ) -> Iterable[Any]:
        """The part's images as the predictor sees them, or every `count`-th of them from `rank` on."""

    @abstractmethod
    def answer(self, predictor: Any, batches: Iterable[Any], part: Any) -> Any:
        """Answers of the predictor about all batches. Images that cannot be read are named in the log."""

    @abstractmethod
    def merge(self, answers: Sequence[Any]) -> Any:
        """Answers of several processes, joined in the part's order."""

    @abstractmethod
    def metrics(self, predictor: Any, answers: Any, part: Any) -> dict[str, Any]:
        """Metrics by name."""

    def main_metric(self, metrics: Mapping[str, Any]) -> str:
        """Name of the most important one of these `metrics`."""
        return next((name for name in self.main_metrics if name in metrics), next(iter(metrics)))

    @abstractmethod
    def rows(self, answers: Any, part: Any) -> Sequence[Rows]:
        """Contents of each of `tables`."""

    @abstractmethod
    def subset(self, answers: Any, places: Sequence[int]) -> Any:
        """Answers about the images at some places of the part, of which one may come several times, as answers about a
        part of these images alone (`take`)."""

    @abstractmethod
    def shifted(self, answers: Any, by: int) -> Any:
        """Answers about a part as those about a larger one, in which its images stand so many places later."""

    def open_image(self, predictor: Any, part: Any, place: int) -> Image.Image:
        """Image of the part. `ImageError` if it cannot be read."""
        return predictor.read(part.sources[place])

    def use_costs(self, path: Path, predictor: Any) -> None:
        """Measure decisions by a table of what they cost, from now on. `InputError` for a task that has none."""
        raise InputError("--costs is for classifiers")

    def write_report(self, folder: Path, answers: Any, part: Any) -> None:  # noqa: B027 # tables may be all
        """Write pictures and further tables into a folder, where `has_report`."""

    def calibration(self, predictor: Any, answers: Any, part: Any) -> dict[str, Any] | None:
        """A calibration for `Predictor.calibrate`, fitted to answers on held-out images; None where there is nothing to
        fit."""
        return None

    def measured_places(self, answers: Any, part: Any) -> Iterable[int]:
        """Places of the images that the metrics are of: all, where one that cannot be read counts as a mistake."""
        return range(len(part))

    def counts(self, answers: Any, part: Any) -> dict[str, int]:
        """Number of images measured."""
        return {"images": len(part)}


def most_costly(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of images that cost something, the highest "cost" first: they are hard, or labelled wrongly."""
    costs = [(math.inf if math.isnan(row["cost"]) else row["cost"], row) for row in rows]
    ordered = sorted(costs, key=lambda each: -each[0])
    return [row for cost, row in ordered[:COSTLIEST_LISTED] if cost > 0]


class Measurement(NamedTuple):
    """A trained model beside the data that it is measured on.

    Args:
        source: where the model is.
        predictor: the model.
        evaluator: of its task.
        part: of the data.
        split: the part's name.
        device: where it is computed.
        precision: type that PyTorch computes in by autocast.
    """

    source: str
    predictor: Any
    evaluator: Evaluator
    part: Any
    split: str
    device: torch.device
    precision: Precision

    def on(self, data: str, split: Split | None = None) -> Measurement:
        """Measurement of the same model on other data; arguments and errors are those of `evaluate`."""
        part, name = self.evaluator.held_out(self.source, self.predictor, data, split)
        return self._replace(part=part, split=name)

    def thinned(self, images: int | None) -> Measurement:
        """Measurement of the same model on at most so many images, evenly spaced over its part; None: on all."""
        return self if images is None else self._replace(part=self.part.spread(images))

    def answers(self, batch_size: int, workers: int) -> Any:
        """Answers of the model about all images of the part, in any number of processes the same in each."""
        with autocast(self.device, self.precision):
            share = {"rank": distributed.rank(), "count": distributed.count()}
            how = {"batch_size": batch_size, "workers": workers, **share}
            batches = self.evaluator.batches(self.predictor, self.part, **how)
            return self.evaluator.merge(distributed.gather(self.evaluator.answer(self.predictor, batches, self.part)))

    def metrics(self, batch_size: int, workers: int) -> dict[str, Any]:
        """The metrics of `answers`."""
        return self.evaluator.metrics(self.predictor, self.answers(batch_size, workers), self.part)


def open_measurement(
    source: str,
    data: str,
    split: Split | None = None,
    *,
    device: str = "auto",
    precision: Precision = "fp32",
    backend: str | None = None,
    classes: ClassChoice | None = None,
    calibrated: bool = False,
    format: str | None = None,
    exclude: str | Path | None = None,
) -> Measurement:
    """A trained model and the part of `data` that it is measured on; arguments and errors are those of `evaluate`."""
    where = pick_device(device)
    keep_fp32()
    if backend is None:
        backend = steady_backend(source)
    own: Precision = "fp32" if backend == "torch" else precision  # PyTorch computes as in training, by autocast
    predictor = load_answering(source, device=device, backend=backend, precision=own, calibrated=calibrated)
    evaluator = task_of_weights(source).evaluator()
    evaluator.exclude = read_exclude(exclude)
    evaluator.choose_format(format)
    evaluator.choose_classes(predictor, data, classes)
    part, name = evaluator.held_out(source, predictor, data, split)
    return Measurement(source, predictor, evaluator, part, name, where, precision if backend == "torch" else "fp32")


def refuse_several_tasks(models: Sequence[Measurement]) -> None:
    """`InputError` where models of several tasks are to be compared."""
    if len({type(model.evaluator) for model in models}) > 1:
        raise InputError("models of several tasks have no metric in common")


def evaluate(
    source: str,
    data: str,
    split: Split | None = None,
    *,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "fp32",
    backend: str | None = None,
    image_size: int | None = None,
    crop: float | None = None,
    out: Path | None = None,
    classes: ClassChoice | None = None,
    calibrated: bool = False,
    calibrate: bool = False,
    costs: Path | None = None,
    groups: Path | None = None,
    by: Sequence[str] | None = None,
    format: str | None = None,
    exclude: Path | None = None,
    **views: Any,
) -> dict[str, Any]:
    """Measure a trained model on a part of some data; under `torchrun`, each process measures its share of the images.

    Args:
        source: a run directory, a weight file, an export, a published name or `hf:ORG/NAME`.
        data: labelled images, as the training of the model's task takes them.
        split: part of the data; None: what they hold out, or what was held out of them when the model was trained on
            them, else all.
        batch_size: most images that are computed together.
        workers: processes that load images.
        device: as of `load`.
        precision: type that is computed in.
        backend: an engine, as of `load`; None: PyTorch for weights, on every machine, and an export's own engine.
        image_size: side of the images that a classifier sees, or short side of those that others see, in pixels; None:
            the model's own.
        crop: share of the resized image that a classifier's centre crop takes; None: the model's own.
        out: a folder for `images.csv`, a row an image, of detectors `objects.csv`, and `costliest.csv`, the rows of the
            images that cost most.
        classes: which classes of a classifier are compared: all of the "model", or those of the "data" alone; None: the
            data's, for heads of ImageNet-22K and 12K on data with fewer of their classes, else the model's.
        calibrated: measure answers with the calibration that is stored with the weights.
        calibrate: fit a calibration to these images, and store it with the weights.
        costs: a table of what a classifier's decisions cost (`analysis.costs.read_costs`).
        groups: a table with a path and columns that divide the images, to measure groups of them too.
        by: names of such columns, or of `tasks.subgroups.COLUMNS_OF_IMAGES`; None: all of the table's.
        format: form of the data, where they are of several.
        exclude: a list of images that are not measured.
        views: of segmenters `scales`, factors on the size, and `flip`, over which answers are averaged.

    Returns:
        Metrics by name, "split", counts of images, and by name what `image_size`, `crop` and `views` changed.
        With `out`, "costliest" names the first of those images; with groups, "metric", "groups" and "gaps" are as
        `tasks.subgroups.groups_stored` has them. The same in all processes, but for "costliest", which only the first
        knows.

    Raises:
        WeightsError: nothing there, or not to be trusted.
        InputError: the data has other classes, or the model none, as one that answers with embeddings alone; or an
            option that the model's task does not have.
    """
    if calibrate and calibrated:
        raise InputError("--calibrate fits to the answers as they are, --calibrated changes them: give one of the two")
    if calibrate and (classes == "data" or image_size is not None or crop is not None):
        raise InputError("--calibrate fits the model as it is: without --classes data, --image-size and --crop")
    how: dict[str, Any] = {"device": device, "precision": precision, "backend": backend}
    how |= {"classes": classes, "format": format, "exclude": exclude}
    measured = open_measurement(source, data, split, calibrated=calibrated, **how)
    predictor, evaluator, part = measured.predictor, measured.evaluator, measured.part
    if calibrate and not evaluator.compares_all:
        raise InputError(f"--calibrate fits the model as it is, and {data} has fewer classes: give --classes model")
    changed = predictor.see(image_size, crop, **views)
    if costs is not None:
        evaluator.use_costs(costs, predictor)
    divided = None
    if groups is not None or by is not None:
        divided = group_columns(part, partial(evaluator.open_image, predictor, part), data, groups, by)
    tables = [Table(out, name) for name in evaluator.tables] if out is not None else []
    with distributed.process_group(measured.device):
        answers = measured.answers(batch_size, workers)
    metrics = evaluator.metrics(predictor, answers, part)
    costliest: list[dict[str, Any]] = []
    if out is not None and distributed.rank() == 0:
        written = [Rows(list(rows), columns) for rows, columns in evaluator.rows(answers, part)]
        for table, (rows, columns) in zip(tables, written, strict=True):
            table.write(rows, columns)
        costliest = most_costly(written[0].rows)
        Table(out, "costliest.csv").write(costliest, written[0].columns)
        if evaluator.has_report and _takes_report(out, metrics):
            evaluator.write_report(out, answers, part)
    if calibrate:
        calibration = evaluator.calibration(predictor, answers, part)
        if calibration is None:
            raise InputError(f"{source}: nothing can be calibrated on {data}")
        fitted = {**calibration, "data": shown_name(data), "split": measured.split}
        if distributed.rank() == 0:
            store_meta(locate(source), {CALIBRATION: fitted})
        metrics |= {name: value for name, value in calibration.items() if isinstance(value, float)}
    if out is not None:
        metrics["costliest"] = [{name: row[name] for name in ("path", "cost")} for row in costliest[:COSTLIEST_NAMED]]
    found = {**metrics, "split": measured.split, **evaluator.counts(answers, part), **changed}
    return found if divided is None else {**found, **_by_group(measured, data, answers, metrics, divided, out)}


def _takes_report(out: Path, metrics: Mapping[str, Any]) -> bool:
    """Whether a report on these metrics may lie in a folder: in a run's that has ended there is one on its own, of
    which its card tells."""
    if not (is_run(out) and (out / "result.json").is_file()) or are_own_figures(Run(out), metrics):
        return True
    log.warning(
        "%s has a report on its own validation images, which stays: these figures are of others; another --out takes "
        "tables by class and charts of them",
        out,
    )
    return False


def _by_group(
    measured: Measurement,
    data: str,
    answers: Any,
    metrics: Mapping[str, Any],
    divided: tuple[dict[str, list[str]], list[int]],
    out: Path | None,
) -> dict[str, Any]:
    """Metrics by group, as `groups.json` holds them; written into `out` if given."""
    evaluator, part = measured.evaluator, measured.part
    there = set(evaluator.measured_places(answers, part))
    # Of a group of which no image can be read there is nothing to say.
    kept = [number for number, place in enumerate(divided[1]) if place in there]
    columns = {name: [values[number] for number in kept] for name, values in divided[0].items()}
    places = [divided[1][number] for number in kept]

    def measure(chosen: Sequence[int]) -> dict[str, Any]:
        own = [places[each] for each in chosen]
        taken = part.take(own)
        return evaluator.metrics(measured.predictor, evaluator.subset(answers, own), taken)

    found = measure_subgroups(columns, measure, evaluator.main_metric(metrics), evaluator.resamples)
    if out is not None and distributed.rank() == 0:
        write_subgroups(out, found, data, measured.split)
    return groups_stored(found)
