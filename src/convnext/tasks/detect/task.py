"""Detection and instance segmentation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from convnext.config import DetectConfig, fit_batch
from convnext.data.fingerprint import of_annotated
from convnext.data.sources.coco import Annotated, AnnotatedImage
from convnext.data.splits import Origin
from convnext.errors import InputError
from convnext.inference.classifier import load
from convnext.inference.detector import Detector
from convnext.models.detection.rcnn import RCNN, create_detector
from convnext.reports.card import write_detection_card
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.tasks.base import TrainLoader
from convnext.tasks.detect.data import (
    DetectionBatch,
    DetectionTransform,
    Objects,
    WholeImage,
    detection_eval_loader,
    detection_train_loader,
)
from convnext.tasks.detect.metrics import KINDS, as_coco, coco_eval, detect, has_objects, merge, metrics_of
from convnext.tasks.detect.report import write_detection_report
from convnext.tasks.pyramid import encoder_of, refuse_deterministic, synchronised, take_over

EVAL_BATCH = 4

log = logging.getLogger("convnext")


def why_unused(image: AnnotatedImage, config: DetectConfig) -> str | None:
    """Why an image is not trained on; None where it is.

    With `config.masks` each of its objects has an outline: one without would be taught as background.
    """
    objects = [a for a in image.annotations if not a.crowd]
    if not image.annotations and image.left_out:
        return "whose annotations were all left out"  # it shows objects, which would be taught as background
    if not image.annotations:
        return None if config.negatives else "without objects"
    if not objects:
        return "with nothing but crowds"
    return "with an object without outline" if config.masks and any(a.outline is None for a in objects) else None


def training_images(train: Annotated, config: DetectConfig) -> tuple[Annotated, list[str]]:
    """The images that are trained on, and how many are not, a line for each reason.

    `InputError` where no image with objects is left.
    """
    reasons = [why_unused(image, config) for image in train.images]
    counts = Counter(reason for reason in reasons if reason)
    unused = [f"images {reason}, not trained on: {count}" for reason, count in counts.items()]
    used = replace(train, images=tuple(i for i, reason in zip(train.images, reasons, strict=True) if not reason))
    if not any(image.annotations for image in used.images):
        advice = "; --masks false takes boxes alone" if counts["with an object without outline"] else ""
        raise InputError(f"{config.data}: no image with objects to train on: {'; '.join(unused) or 'none'}{advice}")
    return used, unused


class Detection:
    """Trains and measures a detector on `train` and `val`; `origin` is stored with the weights."""

    inputs = None  # images of a batch are as large as its largest, and have any number of objects

    def __init__(self, config: DetectConfig, train: Annotated, val: Annotated, origin: Origin) -> None:
        refuse_deterministic(config)
        self.train, unused = training_images(train, config)
        for line in unused:
            log.warning("%s: %s", config.data, line)
        self.config = fit_batch(config, len(self.train), processes=distributed.count())
        self.val, self.train_size, self.origin = val, len(self.train), origin
        if not has_objects(val):
            log.warning("%s: val has no objects: nothing is measured", config.data)
        elif config.masks and not has_objects(val, outlined=True):
            log.warning("%s: val has no outlines: boxes alone are measured", config.data)
        self.kinds = KINDS if config.masks and has_objects(val, outlined=True) else {"box": KINDS["box"]}
        self.score = f"{next(iter(self.kinds))}_AP"
        self.transform = WholeImage(config.test_short, config.max_side, config.white)

    def parts_of_model(self) -> dict[str, Any]:
        """Arguments of `RCNN`."""
        config = self.config
        return {
            "cascade": config.cascade,
            "agnostic": config.agnostic,
            "masks": config.masks,
            "dim": config.fpn_dim,
            "linear": config.linear_dim,
            "box_convs": config.box_convs,
            "mask_convs": config.mask_convs,
            "norm": config.head_norm,
            "anchor_scale": config.anchor_scale,
            "regions": config.regions,
            "soft": config.soft_nms,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the training images and their objects."""
        return of_annotated(self.config.data, self.train)

    def build_model(self) -> nn.Module:
        """The network; with `init`, the backbone's first weights are those."""
        config, classes = self.config, len(self.train.classes)
        model = create_detector(config.model, classes=classes, encoder=encoder_of(config), **self.parts_of_model())
        return synchronised(take_over(model, config.init), config.device)

    def compile(self, network: Any) -> Any:
        """The backbone: what comes after it has other sizes every time."""
        detector = next(module for module in network.modules() if isinstance(module, RCNN))
        detector.backbone.compile()
        return network

    def train_loader(self) -> TrainLoader:
        """Augmented training batches."""
        config = self.config
        first, last = config.short_sides
        transform = DetectionTransform(
            size=(config.image_size,) if config.jitter else (*range(first, last, 32), last),
            long=config.max_side,
            scale=config.jitter,
            hflip=config.hflip,
            vflip=config.vflip,
            colour=config.colour,
            masks=config.masks,
            white=config.white,
        )
        return detection_train_loader(
            self.train,
            transform,
            batch_size=config.batch_size,
            workers=config.workers,
            seed=config.seed,
            rank=distributed.rank(),
            processes=distributed.count(),
        )

    def parts(
        self, batch: DetectionBatch, device: torch.device, shared: torch.Generator
    ) -> Iterable[tuple[int, tuple[list[Tensor], list[Objects], list[int]]]]:
        """A batch in `config.accumulate` parts on the device, with a key for each image's random choices."""
        config = self.config
        images = [image.to(device, non_blocking=True) for image in batch.images]
        objects = [Objects(*(t.to(device, non_blocking=True) for t in each)) for each in batch.objects]
        # Drawn for the whole batch, so that an image's does not depend on the number of processes.
        drawn = torch.randint(2**62, (config.batch_size,), generator=shared).tolist()
        keys = [
            drawn[place] for place in distributed.own_places(config.batch_size, distributed.rank(), distributed.count())
        ]
        size = -(-len(images) // config.accumulate)
        for first in range(0, len(images), size):
            part = images[first : first + size], objects[first : first + size], keys[first : first + size]
            yield len(part[0]), part

    def loss(self, model: Any, part: tuple[list[Tensor], list[Objects], list[int]]) -> Tensor:
        """The sum of all losses: of proposals, classes, boxes and masks; a mean over the images."""
        return torch.stack(list(model(*part).values())).sum()

    def unreadable(self, batch: DetectionBatch) -> list[tuple[str, str]]:
        """Paths and reasons of the batch's unreadable images."""
        return [(str(self.train.images[index].file), reason) for index, reason in batch.unreadable]

    def sources(self, batch: DetectionBatch) -> list[str]:
        """The files of the batch's images."""
        return [str(self.train.images[index].file) for index in batch.indices]

    def evaluate(self, model: nn.Module, device: torch.device, run: Run, epoch: int) -> dict[str, float]:
        """Every `eval_every` epochs, COCO's figures on the validation images, each seen by one of the processes."""
        config = self.config
        if epoch % config.eval_every and epoch != config.epochs:
            return {}
        assert isinstance(model, RCNN)
        detector = self.detector(model)
        own = detect(detector, self.val_loader(distributed.rank(), distributed.count()), self.val)
        results = merge(distributed.gather(own))
        return metrics_of(self.val, {name: coco_eval(self.val, results, kind) for name, kind in self.kinds.items()})

    def detector(self, model: RCNN) -> Detector:
        """The model as everyone after sees it."""
        return Detector(model, self.val.classes, self.val.category_ids, self.transform)

    def val_loader(self, rank: int = 0, count: int = 1) -> Iterable[DetectionBatch]:
        """The validation images, or every `count`-th of them from `rank` on."""
        return detection_eval_loader(
            self.val,
            self.transform,
            batch_size=EVAL_BATCH,
            workers=self.config.workers,
            rank=rank,
            processes=count,
        )

    def meta(self) -> dict[str, Any]:
        """What it takes to build the model again, to see images as it does, and to measure it."""
        return {
            "task": "detect",
            "model": self.config.model,
            "classes": list(self.train.classes),
            "category_ids": list(self.train.category_ids),
            "parts": self.parts_of_model(),
            "transform": asdict(self.transform),
            "origin": self.origin.to_dict(),
        }

    def finish(self, run: Run, device: torch.device, model: nn.Module) -> dict[str, float]:
        """`result.json`, the figures' table and pictures, and the model card; of the last epoch's weights."""
        detector = load(run.path)
        assert isinstance(detector, Detector)
        detector.model.to(device)
        results = detect(detector, self.val_loader(), self.val)
        evaluations = {name: coco_eval(self.val, results, kind) for name, kind in self.kinds.items()}
        metrics = metrics_of(self.val, evaluations)
        run.write_json("result.json", metrics)
        run.write_json("detections.json", as_coco(self.val, results))
        write_detection_report(run.path, run.rows(), evaluations, self.val, results)
        images = (len(self.train), len(self.val))
        write_detection_card(run.path, self.config, metrics, classes=self.train.classes, images=images)
        return metrics
