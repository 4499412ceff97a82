"""Measuring a classifier."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from convnext.analysis.costs import Costs, read_costs
from convnext.data.image_set import ImageSet, read_split
from convnext.data.loading import Batch, eval_loader
from convnext.data.sources.listing import read_listing
from convnext.data.sources.records import in_class_order
from convnext.data.splits import Split
from convnext.errors import InputError
from convnext.inference.classifier import ImageClassifier
from convnext.printing import counted, first_names
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.imagenet import find_real_labels, numbered_classes, real_top1
from convnext.tasks.classify.metrics import (
    MOST_LOGITS,
    Answers,
    Predictions,
    accuracy,
    accuracy_rows,
    classify_batches,
    merge_answers,
    take_answers,
)
from convnext.tasks.classify.quality import calibration_of, cost_figures, costs_of, decided, quality
from convnext.tasks.classify.report import write_quality
from convnext.tasks.evaluate import ClassChoice, Evaluator, Rows
from convnext.tasks.origin import origin_of_model
from convnext.weights.class_names import are_wordnet_ids

log = logging.getLogger("convnext")

LARGEST_COMPARED_WHOLE = 1000
"""Outputs of a head of WordNet ids that is compared whole where nothing else is asked for: ImageNet-1K's."""


class ClassificationEvaluator(Evaluator):
    """Top-1 and top-5 accuracy, or mean average precision of several labels.

    Where ImageNet's reassessed labels lie beside the data, also the share of answers among them.
    """

    real_labels: Sequence[set[int]] | None = None
    costs: Costs | None = None
    config = ClassifyConfig
    main_metrics = ("top1", "mAP")
    has_report = True
    has_formats = True

    def choose_classes(self, predictor: ImageClassifier, data: str, choice: ClassChoice | None) -> None:
        """Compare the answers among the classes of data that have fewer than the model.

        Images of a class that the model has no output for count as wrong, which is said in the log. Only WordNet ids
        are taken to be such classes: another name may be another spelling.
        """
        ids = are_wordnet_ids(predictor.classes)
        by_itself = ids and len(predictor.classes) > LARGEST_COMPARED_WHOLE
        if choice == "data" and predictor.multi_label:
            raise InputError("--classes data is for models of one label an image")
        if choice == "model" or predictor.multi_label or not (choice or by_itself):
            return
        entries = read_listing(data, predictor.classes, False, self.format).entries
        images = Counter(label for entry in entries for label in entry.labels)
        known, wanted = set(predictor.classes), in_class_order(images)
        shared = known.intersection(wanted)
        if shared == known or not shared or (len(shared) < len(wanted) and not (ids and are_wordnet_ids(wanted))):
            return  # nothing to leave out; or data of other classes, which `held_out` refuses
        outputs = len(predictor.classes)
        lacking = predictor.restrict(wanted)
        self.compares_all = False
        log.info("%s: compared among its %d classes, of the model's %d outputs", data, len(wanted), outputs)
        if lacking:
            names = first_names(lacking)
            count = counted(sum(images[name] for name in lacking), "image")
            log.warning("%s: the model has no output for %s; %s of it count as wrong", data, names, count)

    def use_costs(self, path: Path, predictor: ImageClassifier) -> None:
        if predictor.multi_label:
            raise InputError("--costs is for models of one label an image")
        self.costs = read_costs(path, predictor.classes)

    def held_out(self, source: str, predictor: ImageClassifier, data: str, split: Split | None) -> tuple[ImageSet, str]:
        origin = origin_of_model(source, self.config)
        self.real_labels = find_real_labels(data)
        names = numbered_classes(predictor.classes, data) or predictor.classes
        how: dict[str, Any] = {"multi_label": predictor.multi_label, "origin": origin, "form": self.format}
        part = read_split(data, split, classes=names, exclude=self.exclude, **how)
        return replace(part, classes=tuple(predictor.classes)), part.part

    def batches(
        self,
        predictor: ImageClassifier,
        part: ImageSet,
        *,
        batch_size: int,
        workers: int,
        rank: int = 0,
        count: int = 1,
    ) -> Iterable[Batch]:
        how = predictor.preprocessing
        return eval_loader(part, how, batch_size=batch_size, workers=workers, rank=rank, processes=count)

    def answer(self, predictor: ImageClassifier, batches: Iterable[Batch], part: ImageSet) -> Answers:
        return classify_batches(
            predictor.model,
            batches,
            predictor.device,
            temperature=predictor.temperature,
            thresholds=predictor.thresholds,
            keep_logits=len(part) * len(predictor.classes) <= MOST_LOGITS,
        )

    def merge(self, answers: Sequence[Answers]) -> Answers:
        merged = merge_answers(answers)
        # Now, while scores are there: groups of images have none.
        return merged if self.costs is None or not isinstance(merged, Predictions) else decided(merged, self.costs)

    def metrics(self, predictor: ImageClassifier, answers: Answers, part: ImageSet) -> dict[str, Any]:
        found = accuracy(answers)
        # Of a class without an output, the cross-entropy is infinite, and so is the mean.
        metrics = {name: value for name, value in found.items() if value != math.inf}
        metrics |= quality(answers)
        if self.costs is not None and isinstance(answers, Predictions):
            metrics |= cost_figures(answers, self.costs, predictor.classes)
        if self.real_labels is not None and isinstance(answers, Predictions):
            real = real_top1(self.real_labels, answers, part, predictor.classes)
            metrics |= {} if real is None else {"real_top1": real}
        return metrics

    def subset(self, answers: Answers, places: Sequence[int]) -> Answers:
        return take_answers(answers, places)

    def shifted(self, answers: Answers, by: int) -> Answers:
        unreadable = [(place + by, reason) for place, reason in answers.unreadable]
        return replace(answers, indices=answers.indices + by, unreadable=unreadable)

    def open_image(self, predictor: ImageClassifier, part: ImageSet, place: int) -> Image.Image:
        return part.open(place, predictor.preprocessing.mode, predictor.preprocessing.white)

    def write_report(self, folder: Path, answers: Answers, part: ImageSet) -> None:
        write_quality(folder, answers, part.classes)

    def calibration(self, predictor: ImageClassifier, answers: Answers, part: ImageSet) -> dict[str, Any] | None:
        return calibration_of(answers)

    def rows(self, answers: Answers, part: ImageSet) -> Sequence[Rows]:
        rows = accuracy_rows(answers, part)
        if self.costs is None or not isinstance(answers, Predictions):
            return [Rows(rows)]
        assert answers.decisions is not None
        decisions = [self.costs.decisions[place] for place in answers.decisions.tolist()]
        costs = costs_of(answers, self.costs).tolist()
        own = ({"decision": decision, "decision_cost": cost} for decision, cost in zip(decisions, costs, strict=True))
        return [Rows(row | beside for row, beside in zip(rows, own, strict=True))]

    def measured_places(self, answers: Answers, part: ImageSet) -> Iterable[int]:
        return answers.indices.tolist()

    def counts(self, answers: Answers, part: ImageSet) -> dict[str, int]:
        return {"images": len(answers.targets), "unreadable": len(answers.unreadable)}
