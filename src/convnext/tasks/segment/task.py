"""Semantic segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from PIL import Image
from torch import Tensor, nn

from convnext.config import fit_batch
from convnext.data.images.preprocessing import picture_of
from convnext.data.images.whole_image import WholeImage
from convnext.data.map_loading import map_train_loader
from convnext.data.sources.label_maps import IGNORED, Examined, LabelRules, SegmentationSet
from convnext.data.splits import Origin
from convnext.inference.draw import draw_labels
from convnext.inference.segmenter import Segmenter
from convnext.models.segmentation.losses import class_weights, segmentation_loss
from convnext.models.segmentation.upernet import UperNet, create_segmenter
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.tasks.base import TrainLoader
from convnext.tasks.maps import MapTask
from convnext.tasks.pyramid import (
    encoder_of,
    prepared,
    refuse_deterministic,
    refuse_single_images,
    upernet_parts,
)
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.data import SegmentationTransform
from convnext.tasks.segment.ending import overlap_in_words, weakest_area
from convnext.tasks.segment.evaluate import SegmentationEvaluator
from convnext.tasks.segment.metrics import Measured
from convnext.tasks.segment.report import write_segmentation_report


class Segmentation(MapTask):
    """Trains a segmenter on `examined` and measures it on `val`; `rules` are stored with the weights."""

    evaluator = SegmentationEvaluator()
    (score,) = evaluator.main_metrics

    def __init__(
        self, config: SegmentConfig, examined: Examined, val: SegmentationSet, origin: Origin, rules: LabelRules
    ) -> None:
        refuse_deterministic(config)
        train, pixels, _ = examined
        self.config = fit_batch(config, len(train), processes=distributed.count())
        self.train, self.val = train, val
        self.origin, self.rules = origin, rules
        self.transform = WholeImage(config.test_size, config.max_side, config.white)
        power = {"none": 0.0, "root": 0.5, "balanced": 1.0}[config.class_weights]
        self.weights = class_weights(pixels, power) if power else None
        refuse_single_images(self.config)

    def build_model(self) -> nn.Module:
        """The network; with `init`, the backbone's first weights are those."""
        config, classes = self.config, len(self.train.classes)
        model = create_segmenter(
            config.model, num_classes=classes, encoder=encoder_of(config), **upernet_parts(self.config)
        )
        return prepared(model, config)

    def train_loader(self) -> TrainLoader:
        """Augmented crops."""
        config = self.config
        transform = SegmentationTransform(
            size=config.image_size,
            short=config.short_side,
            long=config.max_side,
            scale=config.scale,
            most=config.most_of_a_class,
            hflip=config.hflip,
            photometric=config.photometric,
            white=config.white,
        )
        return map_train_loader(
            self.train,
            transform,
            steps=config.epoch_steps,
            **self.loader_options(),
        )

    def loss(self, model: Any, part: tuple[Tensor, ...]) -> Tensor:
        """The head's loss and a share of the auxiliary head's."""
        images, labels = part
        if self.weights is not None:
            self.weights = self.weights.to(images.device)  # once
        logits, auxiliary = (
            segmentation_loss(
                each.float(),
                labels.long(),
                ignore_index=IGNORED,
                weights=self.weights,
                hard=self.config.loss == "ohem",
                dice=self.config.dice,
            )
            for each in model(images)
        )
        return logits + self.config.aux_weight * auxiliary

    def training_pictures(self, part: tuple[Tensor, ...]) -> Iterator[tuple[Image.Image, str]]:
        """Crops under the colours of their label maps."""
        for image, labels in zip(*part, strict=True):
            yield draw_labels(picture_of(image), labels.cpu().numpy(), self.train.classes), ""

    def validation_picture(self, place: int) -> tuple[Image.Image, str]:
        """A validation image under the colours of its label map."""
        image, labels = self.val.open(place, self.config.white)
        return draw_labels(image, labels, self.val.classes), self.val.images[place].file.name

    def testing(self) -> dict[str, Any]:
        """How `Segmenter` sees images."""
        return {"window": self.config.window, "stride": self.config.stride}

    def predictor(self, model: UperNet) -> Segmenter:
        """The model as everyone after sees it."""
        return Segmenter(model, self.train.classes, self.transform, **self.testing())

    def own_meta(self) -> dict[str, Any]:
        """Metadata to build the model again, to see images as it does, and to read label maps."""
        return {
            "model": self.config.model,
            "parts": upernet_parts(self.config),
            "transform": asdict(self.transform),
            "testing": self.testing(),
            "labels": asdict(self.rules),
        }

    def class_counts(self, answers: Measured) -> dict[str, dict[str, int]]:
        """Pixels of each class in the validation images."""
        return {"val": dict(zip(self.train.classes, answers.matrix.sum(1).tolist(), strict=True))}

    def reached(self, answers: Measured, metrics: dict[str, float]) -> str:
        """Mean overlap, and share of right pixels."""
        return overlap_in_words(metrics, len(answers.images))

    def report(self, run: Run, predictor: Segmenter, answers: Measured) -> str:
        """Curves, confusion matrix, figures by class, and a gallery; returns the weakest class."""
        write_segmentation_report(run.path, run.rows(), answers.matrix, predictor, self.val)
        return weakest_area(answers.matrix, self.train.classes)
