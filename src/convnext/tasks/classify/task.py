"""Image classification, single- or multi-label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convnext.config import fit_batch
from convnext.data.augment.progressive import growing_sides, resized, side_at
from convnext.data.augment.transforms import train_transform
from convnext.data.fingerprint import of_samples
from convnext.data.image_set import ImageSet
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import Batch, train_loader
from convnext.data.splits import Origin
from convnext.inference.classifier import ImageClassifier
from convnext.models.classifier import Classifier, create_model
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.tasks.base import Moment, TrainLoader
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.ending import accuracy_in_words, weakest_class
from convnext.tasks.classify.evaluate import ClassificationEvaluator
from convnext.tasks.classify.metrics import Answers
from convnext.tasks.classify.report import write_report
from convnext.tasks.freezing import drop_path_of, freeze
from convnext.tasks.supervised import SupervisedTask, split_batch
from convnext.weights.class_names import descriptions_of


class Classification(SupervisedTask):
    """Trains a classifier."""

    evaluator = ClassificationEvaluator()

    def __init__(self, config: ClassifyConfig, train: ImageSet, val: ImageSet, origin: Origin) -> None:
        self.config = fit_batch(
            config, len(train), processes=distributed.count(), even=bool(config.mixup or config.cutmix)
        )
        self.train, self.val, self.origin = train, val, origin
        of_one_label, of_several = self.evaluator.main_metrics
        self.score = of_several if config.multi_label else of_one_label
        self.preprocessing = preprocessing(config)
        self.class_weights = balanced_weights(train) if config.class_weights == "balanced" else None
        self.sides = [config.image_size]

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the training images and their labels."""
        return of_samples(self.config.data, self.train)

    def build_model(self) -> Classifier:
        """The network; with `freeze_backbone`, all but its head is fixed."""
        config = self.config
        model = create_model(
            config.model,
            num_classes=len(self.train.classes),
            in_chans=config.in_chans,
            stem_patch=config.stem_patch,
            drop_path_rate=drop_path_of(config),
            layer_scale_init=config.layer_scale_init,
            checkpointing=config.checkpointing,
            head_init_scale=config.head_init_scale,
            weights=config.init,
        )
        freeze(config, model, model.pre_logits, model.head)
        if config.progressive_resizing is not None:
            self.sides = growing_sides(config.image_size, config.progressive_resizing, model.total_stride)
        return model

    @cached_property
    def mixup(self) -> Any:
        """timm's mixup and cutmix."""
        config = self.config
        from timm.data import Mixup  # here, since it takes a second, and short trainings mix nothing

        return Mixup(
            mixup_alpha=config.mixup,
            cutmix_alpha=config.cutmix,
            label_smoothing=config.label_smoothing,
            num_classes=len(self.train.classes),
        )

    def train_loader(self) -> TrainLoader:
        """Augmented training batches."""
        config = self.config
        transform = train_transform(
            self.preprocessing,
            scale=config.crop_scale,
            hflip=config.hflip,
            rand_augment=config.rand_augment,
            color_jitter=config.color_jitter,
            random_erasing=config.random_erasing,
        )
        return train_loader(
            self.train,
            transform,
            mode=self.preprocessing.mode,
            **self.loader_options(),
        )

    def parts(self, batch: Batch, device: torch.device, moment: Moment) -> Iterable[tuple[int, tuple[Tensor, ...]]]:
        """Resize and mix a batch, and cut it into `config.accumulate` parts on the device."""
        config = self.config
        images = resized(batch.on(device), side_at(moment.done, self.sides))
        targets = batch.targets.to(device, non_blocking=True)
        if (config.mixup or config.cutmix) and moment.passes >= config.mix_after:
            images, targets = self.mixup(images, targets)
        return split_batch([images, targets], config.accumulate)

    def inputs(self, part: tuple[Tensor, ...]) -> list[Tensor]:
        """Images and targets."""
        return list(part)

    def loss(self, model: Any, part: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy, or binary cross-entropy for multi-label; mean over the part's images."""
        images, targets = part
        logits = model(images).float()
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(logits.device)  # once
        weights = self.class_weights
        if self.config.multi_label:
            return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
        mixed = targets.is_floating_point()
        smoothing = 0.0 if mixed else self.config.label_smoothing  # timm's mixup smooths by itself
        # Not its own mean, which divides by the part's weights: parts and processes would not add up to the batch's.
        return F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing, reduction="none").mean()

    @cached_property
    def class_words(self) -> list[str]:
        """Names of the classes, or what they mean where that is known."""
        meanings = descriptions_of(self.train.classes)
        return [meanings.get(name, name) for name in self.train.classes]

    def training_pictures(self, part: tuple[Tensor, ...]) -> Iterator[tuple[Image.Image, str]]:
        """Images of a part with the names of their classes, and the shares of those that are mixed."""
        images, targets = part
        for image, target in zip(images, targets, strict=True):
            yield self.preprocessing.to_images(image[None])[0], caption(target.tolist(), self.class_words)

    def validation_picture(self, place: int) -> tuple[Image.Image, str]:
        """A validation image as the network sees it, with the names of its classes."""
        image = self.preprocessing(self.val.open(place, self.preprocessing.mode, self.preprocessing.white))
        return self.preprocessing.to_images(image[None])[0], caption(self.val.targets[place], self.class_words)

    def predictor(self, model: Classifier) -> ImageClassifier:
        """The model as everyone after sees it."""
        return ImageClassifier(model, self.train.classes, self.preprocessing, multi_label=self.config.multi_label)

    def own_meta(self) -> dict[str, Any]:
        """Meanings of classes whose names are codes, whether there may be several, and the preprocessing."""
        return {
            "descriptions": descriptions_of(self.train.classes),
            "multi_label": self.config.multi_label,
            "preprocessing": self.preprocessing.to_dict(),
        }

    def class_counts(self, answers: Answers) -> dict[str, dict[str, int]]:
        """Images of each class."""
        return {name: self._counted(part) for name, part in (("train", self.train), ("val", self.val))}

    def _counted(self, part: ImageSet) -> dict[str, int]:
        found = Counter(label for t in part.targets for label in (t if isinstance(t, tuple) else (t,)))
        return {word: found[label] for label, word in enumerate(self.class_words)}

    def reached(self, answers: Answers, metrics: dict[str, float]) -> str:
        """Top-1 and top-5, or mean average precision."""
        return accuracy_in_words(metrics, len(answers.targets))

    def report(self, run: Run, predictor: ImageClassifier, answers: Answers) -> str:
        """Curves, confusion matrix, figures by class, and worst mistakes; returns the weakest class."""
        how = (self.preprocessing.mode, self.preprocessing.white)
        write_report(run.path, run.rows(), str(self.score), answers, self.val, *how)
        return weakest_class(answers, predictor.answers)


def preprocessing(config: ClassifyConfig) -> Preprocessing:
    """Preprocessing of an image for the network: the paper's rule."""
    standard = Preprocessing.standard(config.image_size, config.in_chans, config.white)
    if config.crop is not None:
        standard = replace(standard, crop=config.crop)
    return standard


def caption(target: int | Sequence[int] | list[float], classes: Sequence[str]) -> str:
    """Name of a class, names of several, or of a mixed image the two that have the largest shares."""
    if isinstance(target, int):
        return classes[target]
    if isinstance(target, tuple):
        return ", ".join(classes[i] for i in target)
    if all(share in (0, 1) for share in target):
        return ", ".join(name for name, share in zip(classes, target, strict=True) if share)
    first = sorted(range(len(classes)), key=lambda i: -target[i])[:2]
    return "\n".join(f"{target[i]:.2f} {classes[i]}" for i in first)


def balanced_weights(samples: ImageSet) -> Tensor:
    """Class weights with mean 1 over the images: inverse counts; for multi-label, negatives for each positive."""
    counts = torch.zeros(len(samples.classes))
    for target in samples.targets:
        counts[list(target) if isinstance(target, tuple) else [target]] += 1
    counts = counts.clamp(min=1)
    if samples.multi_label:
        return (len(samples) - counts).clamp(min=1) / counts  # of 0, nothing would be learnt from images of a class
    return len(samples) / (len(samples.classes) * counts)
