"""Common to tasks with labels: measuring on validation images while training, and what a run ends with."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from convnext.analysis.subgroups import measure_group
from convnext.data.copies import count_copies
from convnext.data.splits import Origin
from convnext.errors import ImageError
from convnext.printing import command_line, counted
from convnext.reports.sheet import PictureGroup
from convnext.runs.directory import Run
from convnext.runs.ending import Ending, write_ending
from convnext.runs.facts import add_facts
from convnext.runtime import distributed
from convnext.tasks.base import Task
from convnext.tasks.card.data import describe_part
from convnext.tasks.card.facts import MOST_SECONDS, common_facts, training_seconds
from convnext.tasks.card.write import write_card
from convnext.tasks.definition import SMALL
from convnext.tasks.evaluate import Evaluator
from convnext.tasks.load import load
from convnext.weights.advice import better_start
from convnext.weights.calibration import CALIBRATION
from convnext.weights.files import store_meta

log = logging.getLogger("convnext")

COPIES_SECONDS, COPIES_SHARE = 1.0, 5e-5
"""Seconds that looking for copies may take at most: so many, and for each training image so many, which is 5 % of an
epoch at 1,000 images a second. It takes a few milliseconds, unless all files have one size."""

PICTURED = 8  # images of each part in the first look
EVAL_BATCH = 64
"""Most images that are measured together."""


class SupervisedTask(Task):
    """Trains on `train` and is measured on `val`; `origin`, the record of both, is stored with the weights."""

    val: Any
    origin: Origin
    evaluator: Evaluator

    @abstractmethod
    def predictor(self, model: Any) -> Any:
        """The model as everyone after sees it."""

    @abstractmethod
    def reached(self, answers: Any, metrics: dict[str, float]) -> str:
        """The most important metrics in a line that a newcomer understands, and on how many images they were
        measured."""

    @abstractmethod
    def report(self, run: Run, predictor: Any, answers: Any) -> str:
        """Write tables and pictures into the run; returns in a line what they show to be weakest."""

    def class_counts(self, answers: Any) -> dict[str, dict[str, int]]:
        """How much there is of each class in "train" and "val", as far as it is known."""
        return {}

    @abstractmethod
    def own_meta(self) -> dict[str, Any]:
        """Metadata to build the model again, and to see images as it does."""

    def advice(self) -> str | None:
        """Published weights to start from, where weights are random, images few, and channels and stem are theirs."""
        config = self.config
        theirs = config.init is None and config.in_chans == 3 and config.stem_patch == 4
        return better_start(config.model) if theirs and len(self.train) <= SMALL else None

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of training and validation images."""
        return len(self.train), len(self.val)

    def measured(self) -> float:
        """Ratio of validation images to training images."""
        return len(self.val) / len(self.train)

    @abstractmethod
    def training_pictures(self, part: Any) -> Iterator[tuple[Image.Image, str]]:
        """Images of a part with their labels drawn, and captions."""

    @abstractmethod
    def validation_picture(self, place: int) -> tuple[Image.Image, str]:
        """A validation image with its labels drawn, and a caption. `ImageError` if it cannot be read."""

    def first_look(self, part: Any) -> Sequence[PictureGroup]:
        """Some images of the first training batch, augmented, and validation images from all over the set."""
        train = list(islice(self.training_pictures(part), PICTURED))
        val = []
        for place in range(0, len(self.val), max(1, -(-len(self.val) // PICTURED))):
            with suppress(ImageError):  # measuring names it; the picture does without
                val.append(self.validation_picture(place))
        return PictureGroup("first training batch", train), PictureGroup("validation", val)

    def val_batches(self, predictor: Any, rank: int = 0, count: int = 1) -> Iterable[Any]:
        """The validation images as every later command sees them, or every `count`-th of them from `rank` on."""
        most = min(EVAL_BATCH, 8 * self.config.batch_size)  # in the memory of training, which keeps all activations
        how = {"batch_size": most, "workers": self.config.workers, "rank": rank, "count": count}
        return self.evaluator.batches(predictor, self.val, **how)

    def evaluate(self, model: nn.Module, device: torch.device, run: Run, epoch: int, *, last: bool) -> dict[str, float]:
        """Every `eval_every` epochs, metrics of the validation images, each seen by one of the processes."""
        if epoch % self.config.eval_every and not last:
            return {}
        predictor = self.predictor(model)
        batches = self.val_batches(predictor, distributed.rank(), distributed.count())
        answers = self.evaluator.merge(distributed.gather(self.evaluator.answer(predictor, batches, self.val)))
        return self.evaluator.metrics(predictor, answers, self.val)

    def finish(self, run: Run, device: torch.device, model: nn.Module) -> dict[str, float]:
        """Measure the run's stored weights, and write `result.json`, the report, `summary.json` and the model card."""
        predictor = load(run.path, device=device, backend="torch")
        answers = self.evaluator.answer(predictor, self.val_batches(predictor), self.val)
        metrics = self.evaluator.metrics(predictor, answers, self.val)
        run.write_json("result.json", metrics)
        if (calibration := self.evaluator.calibration(predictor, answers, self.val)) is not None:
            store_meta(run.weights, {CALIBRATION: calibration})
        weakest = self.report(run, predictor, answers)
        write_ending(run, Ending(self.reached(answers, metrics), weakest))
        add_facts(run, self.facts(run, model, predictor, answers))
        write_card(run)  # the last that is written: with it, the run is whole
        return metrics

    def before_training(self, run: Run) -> None:
        """Look for validation images that are trained on, say how many there are, and keep it for the card, with the
        number of images that were left out."""
        data = self.config.data
        copies = count_copies(data, self.train, self.val, seconds=COPIES_SECONDS + COPIES_SHARE * len(self.train))
        command = command_line("check", data)
        if copies is None:
            log.info("%s: validation images that are training images too were not looked for: %s does", data, command)
        elif copies:
            count = f"{copies:,} of {counted(len(self.val), 'validation image')}"
            log.warning("%s: %s: training images too, byte for byte; `%s` shows them", data, count, command)
        else:
            log.info("%s: no validation image is a training image; `%s` looks for near copies too", data, command)
        add_facts(run, {"copies": copies, "excluded": len(self.origin.left_out)})

    def facts(self, run: Run, model: nn.Module, predictor: Any, answers: Any) -> dict[str, Any]:
        """Facts for the card beside metrics, found within a fortieth of the time that training took."""
        seconds = min(MOST_SECONDS, training_seconds(run) / 40)
        counts = self.class_counts(answers)
        parts = {"train": self.train, "val": self.val}
        return {
            **common_facts(run, self.config, model),
            "data": {name: {**describe_part(part), "classes": counts.get(name, {})} for name, part in parts.items()},
            "intervals": self.intervals(predictor, answers, seconds),
        }

    def intervals(self, predictor: Any, answers: Any, seconds: float) -> dict[str, tuple[float, float]] | None:
        """Intervals of the metrics by resampling validation images; None where it takes longer."""

        def measure(places: Sequence[int]) -> dict[str, Any]:
            return self.evaluator.metrics(predictor, self.evaluator.subset(answers, places), self.val.take(places))

        start = time.perf_counter()
        measure(range(len(self.val)))
        if self.evaluator.resamples * (time.perf_counter() - start) > seconds:
            return None
        return dict(measure_group("all", "all", range(len(self.val)), measure, self.evaluator.resamples).intervals)

    def meta(self) -> dict[str, Any]:
        """Task, classes, what was trained on, and what the task adds."""
        common = {"task": self.config.TASK, "classes": list(self.train.classes), "origin": self.origin.to_dict()}
        return common | self.own_meta()


def split_batch(tensors: list[Tensor], parts: int) -> Iterable[tuple[int, tuple[Tensor, ...]]]:
    """Tensors of a batch in so many parts, each with its number of images."""
    for part in zip(*(tensor.chunk(parts) for tensor in tensors), strict=True):
        yield len(part[0]), part
