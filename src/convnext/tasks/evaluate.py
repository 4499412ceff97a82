"""Measuring a trained model on data: what every task does alike, and what each has to say for itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from convnext.config import TrainConfig
from convnext.data.splits import Split
from convnext.reports.tables import Table
from convnext.runtime import distributed
from convnext.runtime.device import Precision, autocast, pick_device
from convnext.tasks.load import load_answering, task_of_weights


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
    tables: ClassVar[tuple[str, ...]] = ("images.csv",)
    """Files that `rows` fills."""

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
        """What the predictor says of all batches. Images that cannot be read are named in the log."""

    @abstractmethod
    def merge(self, answers: Sequence[Any]) -> Any:
        """Answers of several processes, joined in the part's order."""

    @abstractmethod
    def metrics(self, predictor: Any, answers: Any, part: Any) -> dict[str, Any]:
        """Metrics by name."""

    @abstractmethod
    def rows(self, answers: Any, part: Any) -> Sequence[Rows]:
        """Contents of each of `tables`."""

    def counts(self, answers: Any, part: Any) -> dict[str, int]:
        """Number of images measured."""
        return {"images": len(part)}


def evaluate(
    source: str,
    data: str,
    split: Split | None = None,
    *,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    precision: Precision = "fp32",
    image_size: int | None = None,
    crop: float | None = None,
    out: Path | None = None,
    **views: Any,
) -> dict[str, Any]:
    """Metrics of a trained model on a part of `data`, with its name and the count of images.

    `image_size`, `crop` and `views` stand for the model's own (of segmenters, `scales` and `flip`); `out` is a folder
    for `images.csv`, a row an image, and of detectors `objects.csv`. Under `torchrun`, each process sees its share of
    the images, and all get the whole's metrics. `InputError` where the data has other classes, or the model none: a kNN
    of embeddings is not measured.
    """
    where = pick_device(device)
    predictor = load_answering(source, device=where)
    changed = predictor.see(image_size, crop, **views)
    evaluator = task_of_weights(source).evaluator()
    part, name = evaluator.held_out(source, predictor, data, split)
    tables = [Table(out, name) for name in evaluator.tables] if out is not None else []
    with distributed.process_group(where), autocast(where, precision):
        share = {"rank": distributed.rank(), "count": distributed.count()}
        batches = evaluator.batches(predictor, part, batch_size=batch_size, workers=workers, **share)
        answers = evaluator.merge(distributed.gather(evaluator.answer(predictor, batches, part)))
    metrics = evaluator.metrics(predictor, answers, part)
    if tables and distributed.rank() == 0:
        for table, (rows, columns) in zip(tables, evaluator.rows(answers, part), strict=True):
            table.write(rows, columns)
    return {**metrics, "split": name, **evaluator.counts(answers, part), **changed}
