"""Monocular depth: UperNet's pyramid with one output, and the L1 error of depths or of their logarithms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from convnext.config import fit_batch
from convnext.data.images.preprocessing import picture_of
from convnext.data.images.whole_image import WholeImage
from convnext.data.map_loading import map_train_loader
from convnext.data.sources.depth_maps import Depths, DepthSet
from convnext.data.splits import Origin
from convnext.inference.depth import DepthEstimator, DepthUnit, draw_depths
from convnext.models.segmentation.upernet import UperNet, create_segmenter
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.tasks.base import TrainLoader
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.depth.data import DepthTransform
from convnext.tasks.depth.ending import errors_in_words, weakest_distance
from convnext.tasks.depth.evaluate import DepthEvaluator
from convnext.tasks.depth.metrics import MeasuredDepths
from convnext.tasks.depth.report import write_depth_report
from convnext.tasks.maps import MapTask
from convnext.tasks.pyramid import (
    encoder_of,
    prepared,
    refuse_deterministic,
    refuse_single_images,
    upernet_parts,
)


class DepthEstimation(MapTask):
    """Trains a depth estimator on images with the spread of their depths, and measures it on `val`."""

    evaluator = DepthEvaluator()
    (score,) = evaluator.main_metrics

    def __init__(self, config: DepthConfig, examined: tuple[DepthSet, Depths], val: DepthSet, origin: Origin) -> None:
        refuse_deterministic(config)
        self.train, spread = examined
        self.config = fit_batch(config, len(self.train), processes=distributed.count())
        self.val, self.origin = val, origin
        self.transform = WholeImage(config.test_size, config.max_side, config.white)
        by_log = config.loss == "log_l1"
        mean, std = (spread.log_mean, spread.log_std) if by_log else (spread.mean, spread.std)
        self.unit = DepthUnit(by_log, float(mean), float(std))
        refuse_single_images(self.config)

    def build_model(self) -> nn.Module:
        """The network; with `init`, the backbone's first weights are those."""
        config = self.config
        model = create_segmenter(config.model, num_classes=1, encoder=encoder_of(config), **upernet_parts(config))
        return prepared(model, config)

    def train_loader(self) -> TrainLoader:
        """Augmented crops."""
        config = self.config
        transform = DepthTransform(
            size=config.image_size,
            short=config.short_side,
            long=config.max_side,
            scale=config.scale,
            hflip=config.hflip,
            photometric=config.photometric,
            white=config.white,
        )
        return map_train_loader(self.train, transform, **self.loader_options())

    def loss(self, model: Any, part: tuple[Tensor, ...]) -> Tensor:
        """The head's loss and a share of the auxiliary head's."""
        images, depths = part
        outputs, auxiliary = (depth_loss(each[:, 0].float(), depths, self.unit) for each in model(images))
        return outputs + self.config.aux_weight * auxiliary

    def training_pictures(self, part: tuple[Tensor, ...]) -> Iterator[tuple[Image.Image, str]]:
        """Crops beside their depths."""
        for image, depths in zip(*part, strict=True):
            yield beside(picture_of(image), depths.cpu().numpy())

    def validation_picture(self, place: int) -> tuple[Image.Image, str]:
        """A validation image beside its depths."""
        return beside(*self.val.open(place, self.config.white))

    def predictor(self, model: UperNet) -> DepthEstimator:
        """The model as everyone after sees it."""
        return DepthEstimator(model, self.transform, self.unit, depth_scale=self.config.depth_scale)

    def own_meta(self) -> dict[str, Any]:
        """Metadata to build the model again, to see images as it does, and to read depth maps."""
        return {
            "model": self.config.model,
            "parts": upernet_parts(self.config),
            "transform": asdict(self.transform),
            "depth": {**asdict(self.unit), "depth_scale": self.config.depth_scale},
        }

    def reached(self, answers: MeasuredDepths, metrics: dict[str, float]) -> str:
        """Mean error, and share of pixels that are nearly right."""
        return errors_in_words(metrics, len(answers.images))

    def report(self, run: Run, predictor: DepthEstimator, answers: MeasuredDepths) -> str:
        """Curves, and a gallery; returns the range of distance of the largest error."""
        write_depth_report(run.path, run.rows(), predictor, self.val)
        return weakest_distance(answers)


def beside(image: Image.Image, depths: np.ndarray) -> tuple[Image.Image, str]:
    """An image beside its depths `[H, W]`, of which 0 is unknown and grey, and a caption with their range."""
    known = depths > 0
    if not known.any():
        return image, "no depth is known"
    drawn = np.array(draw_depths(np.where(known, depths, depths[known].min())))
    drawn[~known] = 128
    both = Image.new("RGB", (2 * image.width, image.height))
    both.paste(image, (0, 0))
    both.paste(Image.fromarray(drawn), (image.width, 0))
    return both, f"depths from {depths[known].min():.3g} to {depths[known].max():.3g}"


def depth_loss(outputs: Tensor, depths: Tensor, unit: DepthUnit) -> Tensor:
    """Mean over the images of each one's mean |output - target| over known depths; of an image without any, 0.

    Args:
        outputs: `[N, H, W]`, in `unit`.
        depths: `[N, H, W]`, 0 where they are not known.
        unit: of the outputs.
    """
    known = depths > 0
    errors = (outputs - unit.of_depths(depths.clamp(min=1e-6))).abs() * known
    return (errors.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)).mean()
