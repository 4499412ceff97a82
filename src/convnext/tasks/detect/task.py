"""Detection and instance segmentation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from convnext.config import fit_batch
from convnext.data.fingerprint import of_annotated
from convnext.data.images.preprocessing import picture_of
from convnext.data.images.whole_image import WholeImage
from convnext.data.sources.annotated import DetectionSet
from convnext.data.splits import Origin
from convnext.inference.detector import Detector
from convnext.inference.draw import Drawn, draw_objects
from convnext.models.detection.objects import Objects
from convnext.models.detection.rcnn import RCNN, create_detector
from convnext.printing import counted
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.tasks.base import Moment, TrainLoader
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.data import DetectionBatch, DetectionTransform, detection_train_loader, open_annotated
from convnext.tasks.detect.ending import precision_in_words, weakest_objects
from convnext.tasks.detect.evaluate import DetectionEvaluator
from convnext.tasks.detect.metrics import Result, as_coco, evaluate_kinds, has_objects
from convnext.tasks.detect.read import training_images
from convnext.tasks.detect.report import drawn_truth, write_detection_report
from convnext.tasks.pyramid import encoder_of, prepared, refuse_deterministic
from convnext.tasks.supervised import SupervisedTask
from convnext.weights import read_meta

log = logging.getLogger("convnext")


INHERITED = ("round_anchors", "code_weights", "roi_samples", "size_divisor", "average")
"""Arguments of `RCNN` by which the weights of a detector mean what they do; a run has no options for them."""


def inherited_parts(init: str | None) -> dict[str, Any]:
    """Classes of the detector `init`; empty for first weights of another kind, or none."""
    parts = {} if init is None else read_meta(init).get("parts", {})
    return {name: parts[name] for name in INHERITED if name in parts}


class Detection(SupervisedTask):
    """Trains a detector."""

    evaluator = DetectionEvaluator()
    inputs = None  # images of a batch are as large as its largest, and have any number of objects

    def __init__(self, config: DetectConfig, train: DetectionSet, val: DetectionSet, origin: Origin) -> None:
        refuse_deterministic(config)
        self.train, unused = training_images(train, config)
        for line in unused:
            log.warning("%s: %s", config.data, line)
        self.config = fit_batch(config, len(self.train), processes=distributed.count())
        self.val, self.origin = val, origin
        if not has_objects(val):
            log.warning("%s: val has no objects: nothing is measured", config.data)
        elif config.masks and not has_objects(val, outlined=True):
            log.warning("%s: val has no outlines: boxes alone are measured", config.data)
        of_masks, of_boxes = self.evaluator.main_metrics
        self.score = of_masks if config.masks and has_objects(val, outlined=True) else of_boxes
        self.transform = WholeImage(config.test_size, config.max_side, config.white)

    def parts_of_model(self) -> dict[str, Any]:
        """Arguments of `RCNN`."""
        config = self.config
        return {
            "cascade": config.cascade,
            "class_agnostic": config.class_agnostic,
            "masks": config.masks,
            "fpn_dim": config.fpn_dim,
            "linear_dim": config.linear_dim,
            "box_convs": config.box_convs,
            "mask_convs": config.mask_convs,
            "head_norm": config.head_norm,
            "anchor_scale": config.anchor_scale,
            "rois_per_image": config.rois_per_image,
            "soft_nms": config.soft_nms,
            **inherited_parts(config.init),
        }

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the training images and their objects."""
        return of_annotated(self.config.data, self.train)

    def build_model(self) -> nn.Module:
        """The network; with `init`, the backbone's first weights are those."""
        config, classes = self.config, len(self.train.classes)
        model = create_detector(config.model, num_classes=classes, encoder=encoder_of(config), **self.parts_of_model())
        return prepared(model, config)

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
            size=(config.image_size,) if config.scale_jitter else (*range(first, last, 32), last),
            long=config.max_side,
            scale=config.scale_jitter,
            hflip=config.hflip,
            vflip=config.vflip,
            colour=config.colour,
            masks=config.masks,
            part=config.random_crop,
            white=config.white,
        )
        return detection_train_loader(
            self.train,
            transform,
            **self.loader_options(),
        )

    def parts(
        self, batch: DetectionBatch, device: torch.device, moment: Moment
    ) -> Iterable[tuple[int, tuple[list[Tensor], list[Objects], list[int]]]]:
        """A batch in `config.accumulate` parts on the device, with a key for each image's random choices."""
        config = self.config
        images = [image.to(device, non_blocking=True) for image in batch.images]
        objects = [Objects(*(t.to(device, non_blocking=True) for t in each)) for each in batch.objects]
        # Drawn for the whole batch, so that an image's does not depend on the number of processes.
        drawn = torch.randint(2**62, (config.batch_size,), generator=moment.draws).tolist()
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

    def training_pictures(
        self, part: tuple[list[Tensor], list[Objects], list[int]]
    ) -> Iterator[tuple[Image.Image, str]]:
        """Images with the boxes and masks of their objects."""
        for image, objects in zip(*part[:2], strict=True):
            masks = objects.masks.bool().cpu().numpy()
            drawn = [
                Drawn(self.train.classes[label], None, box, masks[i] if self.config.masks else None)
                for i, (label, box) in enumerate(zip(objects.labels.tolist(), objects.boxes.tolist(), strict=True))
            ]
            yield draw_objects(picture_of(image), drawn), counted(len(drawn), "object")

    def validation_picture(self, place: int) -> tuple[Image.Image, str]:
        """A validation image with the boxes and masks of its objects."""
        annotated = self.val.images[place]
        truth = drawn_truth(annotated, self.val.classes)
        return draw_objects(open_annotated(annotated, self.config.white), truth), counted(len(truth), "object")

    def predictor(self, model: RCNN) -> Detector:
        """The model as everyone after sees it."""
        return Detector(model, self.val.classes, self.val.category_ids, self.transform)

    def own_meta(self) -> dict[str, Any]:
        """Metadata to build the model again, and to see images as it does."""
        return {
            "model": self.config.model,
            "category_ids": list(self.train.category_ids),
            "parts": self.parts_of_model(),
            "transform": asdict(self.transform),
        }

    def class_counts(self, answers: list[Result]) -> dict[str, dict[str, int]]:
        """Objects of each class."""
        return {name: counted_objects(part) for name, part in (("train", self.train), ("val", self.val))}

    def reached(self, answers: list[Result], metrics: dict[str, float]) -> str:
        """Average precision of masks and boxes."""
        return precision_in_words(metrics, len(self.val))

    def report(self, run: Run, predictor: Detector, answers: list[Result]) -> str:
        """All detections, curves, precision and recall, figures by class, and a gallery; returns the weakest class and
        size."""
        run.write_json("detections.json", as_coco(self.val, answers))
        evaluations = evaluate_kinds(self.val, answers, predictor.model)
        write_detection_report(run.path, run.rows(), evaluations, self.val, answers, white=self.config.white)
        return weakest_objects(evaluations, self.val)


def counted_objects(data: DetectionSet) -> dict[str, int]:
    """Objects of each class, without crowds."""
    found = Counter(a.label for image in data.images for a in image.annotations if not a.crowd)
    return {name: found[label] for label, name in enumerate(data.classes)}
