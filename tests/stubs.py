"""Networks with known answers: they find what is painted into an image, in red, green and blue.

An object is painted in its class's channel, as bright as its score; what a segmenter says of a pixel is its brightest
channel; a depth is the level of red in tens; a classifier's scores are the shares of the channels in the middle pixel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.data.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from convnext.data.images.whole_image import WholeImage
from convnext.inference.classifier import ImageClassifier
from convnext.inference.depth import DepthEstimator, DepthUnit
from convnext.inference.detector import Detector
from convnext.inference.segmenter import Segmenter
from convnext.models.detection.rcnn import Detections
from convnext.tasks.registry import find_task
from convnext.weights.files import META_KEY

CLASSES = ["red", "green", "blue"]
CATEGORY_IDS = [10, 20, 30]
FAINT = 20
"""The level from which a pixel belongs to something painted."""
MASK_SIDE = 28


class Painted(NamedTuple):
    """A filled rectangle or ellipse over the pixels x0..x1, y0..y1, the last not among them."""

    label: int
    score: float
    box: tuple[int, int, int, int]
    round: bool = False


def painted(size: tuple[int, int], *objects: Painted) -> Image.Image:
    """A black image of width and height with objects."""
    image = Image.new("RGB", size)
    pen = ImageDraw.Draw(image)
    for label, score, (x0, y0, x1, y1), is_round in objects:
        colour = tuple(round(255 * score) if channel == label else 0 for channel in range(3))
        (pen.ellipse if is_round else pen.rectangle)((x0, y0, x1 - 1, y1 - 1), fill=colour)
    return image


def pixels_of(images: Tensor) -> Tensor:
    """Normalised images `[..., 3, h, w]` as the levels from 0 to 255 that they were."""
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    return 255 * (images * deviation + mean)


class StubDetector(nn.Module):
    """Finds each painted object; its score is its brightest pixel."""

    NMS_IOU = 0.5

    def __init__(self, masks: bool = True) -> None:
        super().__init__()
        self.mask_heads = masks

    def forward(self, images: Sequence[Tensor]) -> list[Detections]:
        return [self.find(pixels_of(image)) for image in images]

    def find(self, levels: Tensor) -> Detections:
        """Objects of levels `[3, h, w]`, best first."""
        found: list[tuple[float, int, list[float], Tensor]] = []
        for label, channel in enumerate(levels):
            regions, count = ndimage.label((channel > FAINT).numpy())
            for number in range(1, count + 1):
                own = channel * torch.from_numpy(regions == number)
                inside = own > own.max() / 2
                rows, columns = torch.where(inside.any(1))[0], torch.where(inside.any(0))[0]
                box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
                cut = inside[box[1] : box[3], box[0] : box[2]].float()
                mask = F.interpolate(cut[None, None], size=(MASK_SIDE, MASK_SIDE), mode="bilinear")[0, 0]
                found.append((round(own.max().item()) / 255, label, [float(side) for side in box], mask))
        found.sort(key=lambda each: -each[0])
        scores, labels, boxes, masks = zip(*found, strict=True) if found else ((), (), (), ())
        drawn = torch.stack(masks) if found and self.mask_heads else torch.zeros(0, 1, 1)
        return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long(), drawn)


class StubSegmenter(nn.Module):
    """Says of each pixel its brightest channel; `seen` are the height and width of each input."""

    SHARPNESS = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((images.shape[2], images.shape[3]))
        return self.SHARPNESS * pixels_of(images) / 255


class StubClassifier(nn.Module):
    """Scores are the shares of red, green and blue in the middle pixel, and the embedding its levels."""

    num_classes = num_features = in_chans = 3

    def embed(self, images: Tensor) -> Tensor:
        return pixels_of(images)[:, :, images.shape[2] // 2, images.shape[3] // 2]

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images).clamp(min=1e-3).log()


class StubDepth(nn.Module):
    """Gives the level of red, divided by ten."""

    def forward(self, images: Tensor) -> Tensor:
        return pixels_of(images)[:, :1] / 10


def stub_detector(short: int, long: int = 10**4, *, masks: bool = True, **how: Any) -> Detector:
    """A detector that sees images at a short side of so many pixels."""
    return Detector(StubDetector(masks), CLASSES, CATEGORY_IDS, WholeImage(short, long), **how)  # type: ignore[arg-type]  # a stub


def stub_segmenter(short: int, long: int = 10**4, **how: Any) -> Segmenter:
    """A segmenter that sees images at a short side of so many pixels."""
    return Segmenter(StubSegmenter(), CLASSES, WholeImage(short, long), **how)  # type: ignore[arg-type]  # a stub


def stub_depth_estimator(short: int, long: int = 10**4) -> DepthEstimator:
    """A depth estimator that sees images at a short side of so many pixels; its training's maps were millimetres."""
    unit = DepthUnit(by_log=False, mean=0.0, std=1.0)
    return DepthEstimator(StubDepth(), WholeImage(short, long), unit, depth_scale=1000)  # type: ignore[arg-type]  # a stub


def stub_classifier(size: int, **how: Any) -> ImageClassifier:
    """A classifier that sees squares of so many pixels."""
    return ImageClassifier(StubClassifier(), CLASSES, Preprocessing.standard(size), **how)  # type: ignore[arg-type]  # a stub


def area_of(each: Painted, size: tuple[int, int]) -> np.ndarray:
    """The pixels of an object in an image of width and height, bool `[H, W]`."""
    return np.asarray(painted(size, each))[..., each.label] > 0


def stored(patch: pytest.MonkeyPatch, place: Path, task: str, make: Callable[[], Any], **meta: object) -> Path:
    """A weight file that `load`, and with it every command, takes for the predictor that a call makes."""
    save_file({"none": torch.zeros(1)}, place, metadata={META_KEY: json.dumps({"task": task, **meta})})
    patch.setattr(type(find_task(task)), "predictor", lambda self, source, meta: make())
    patch.setattr("convnext.tasks.load.use_backend", lambda *how: "stub")
    return place
