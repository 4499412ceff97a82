"""Detection and instance segmentation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from convnext import processes
from convnext.card import write_detection_card
from convnext.config import DetectConfig, fit_batch
from convnext.data.annotated import (
    DetectionBatch,
    DetectionTransform,
    Objects,
    WholeImage,
    detection_eval_loader,
    detection_train_loader,
)
from convnext.data.coco import Annotated, AnnotatedImage
from convnext.data.fingerprint import of_annotated
from convnext.data.splits import Origin
from convnext.deploy.detector import Detector
from convnext.deploy.predictor import load
from convnext.errors import InputError
from convnext.evaluate.coco_ap import KINDS, as_coco, coco_eval, detect, merge, metrics_of
from convnext.evaluate.detection_report import write_detection_report
from convnext.models.rcnn import RCNN, create_detector
from convnext.run import Run
from convnext.tasks.pyramid import encoder_of, refuse_deterministic, synchronised, take_over
from convnext.tasks.task import TrainLoader

EVAL_BATCH = 4

log = logging.getLogger("convnext")


def is_usable(image: AnnotatedImage, masks: bool) -> bool:
    """Whether a detector can learn from an image: it has objects, and with `masks` an outline of each, as an object
    without would be taught as background."""
    objects = [a for a in image.annotations if not a.crowd]
    return bool(objects) and not (masks and any(a.outline is None for a in objects))


def why_unused(images: Iterable[AnnotatedImage], masks: bool) -> list[str]:
    """How many images are not trained on, a line for each reason."""
    reasons = Counter[str]()
    for image in images:
        if not is_usable(image, masks):
            objects = [a for a in image.annotations if not a.crowd]
            crowds = "with nothing but crowds" if image.annotations else "without objects"
            reasons["with an object without outline" if objects else crowds] += 1
    return [f"{count} images {reason}" for reason, count in reasons.items()]


class Detection:
    """Trains and measures a detector on `train` and `val`; `origin` is stored with the weights."""

    inputs = None  # images of a batch are as large as its largest, and have any number of objects

    def __init__(self, config: DetectConfig, train: Annotated, val: Annotated, origin: Origin) -> None:
        refuse_deterministic(config)
        self.train = replace(train, images=tuple(image for image in train.images if is_usable(image, config.masks)))
        unused = why_unused(train.images, config.masks)
        if unused and len(self.train):
            log.info(
                "%d of %d training images are not used: %s", len(train) - len(self.train), len(train), "; ".join(unused)
            )
        if not len(self.train):
            outlines = any("without outline" in reason for reason in unused)
            advice = "; --masks false takes boxes alone" if outlines else ""
            raise InputError(f"no training image can be used: {'; '.join(unused)}{advice}")
        self.config = fit_batch(config, len(self.train), processes=processes.count())
        self.val, self.train_size, self.origin = val, len(self.train), origin
        if not any(image.annotations for image in val.images):
            log.warning("%s: val has no objects: nothing is measured", config.data)
        self.kinds = KINDS if config.masks else {"box": KINDS["box"]}
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
            rank=processes.rank(),
            processes=processes.count(),
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
        keys = [drawn[place] for place in processes.own_places(config.batch_size, processes.rank(), processes.count())]
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
        own = detect(detector, self.val_loader(processes.rank(), processes.count()), self.val)
        results = merge(processes.gather(own))
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
