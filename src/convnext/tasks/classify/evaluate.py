"""Measuring a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from convnext.data.image_set import ImageSet, read_split
from convnext.data.loading import Batch, eval_loader
from convnext.data.splits import Split
from convnext.inference.classifier import ImageClassifier
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.metrics import Answers, accuracy, accuracy_rows, classify_batches, merge_answers
from convnext.tasks.evaluate import Evaluator, Rows
from convnext.tasks.origin import origin_of_model


class ClassificationEvaluator(Evaluator):
    """Top-1 and top-5 accuracy, or mean average precision of several labels."""

    config = ClassifyConfig

    def held_out(self, source: str, predictor: ImageClassifier, data: str, split: Split | None) -> tuple[ImageSet, str]:
        origin = origin_of_model(source, self.config)
        part = read_split(data, split, classes=predictor.classes, multi_label=predictor.multi_label, origin=origin)
        return part, part.part

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
        return classify_batches(predictor.model, batches, predictor.device)

    def merge(self, answers: Sequence[Answers]) -> Answers:
        return merge_answers(answers)

    def metrics(self, predictor: ImageClassifier, answers: Answers, part: ImageSet) -> dict[str, Any]:
        return accuracy(answers)

    def rows(self, answers: Answers, part: ImageSet) -> Sequence[Rows]:
        return [Rows(accuracy_rows(answers, part))]

    def counts(self, answers: Answers, part: ImageSet) -> dict[str, int]:
        return {"images": len(answers.targets), "unreadable": len(answers.unreadable)}
