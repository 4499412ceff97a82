"""Answers about whole images, as JSON: every number as the predictor gives it. Importing this takes seconds."""

from __future__ import annotations

import base64
import io
from functools import singledispatch
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from convnext.analysis.attribution import attribute, draw_attribution
from convnext.data.images.whole_image import Size
from convnext.data.rle import from_mask
from convnext.errors import InputError
from convnext.inference.arrays import pixels_of_classes
from convnext.inference.base import Predictor
from convnext.inference.depth import DepthEstimator, least_median_most
from convnext.inference.detector import Detector, place
from convnext.inference.segmenter import Segmenter


@singledispatch
def answers_of(predictor: Any, prepared: list[tuple[Tensor, Size]], **options: Any) -> list[dict[str, Any]]:
    """A predictor's answers about prepared images, as JSON can hold them.

    A mask is COCO's run-length code of the image's size. `InputError` for another kind of predictor.
    """
    raise InputError(f"a {type(predictor).__name__} does not answer about whole images")


@answers_of.register
def _objects(
    predictor: Detector, prepared: list[tuple[Tensor, Size]], *, threshold: float | None = None
) -> list[dict[str, Any]]:
    with torch.inference_mode():
        detections = predictor.model([inputs.to(predictor.device) for inputs, _ in prepared])
    answers, least = [], predictor.least(threshold)
    for found, (inputs, size) in zip(detections, prepared, strict=True):
        objects = []
        # One by one: the masks of a large image's hundred objects together would be gigabytes.
        inner = (inputs.shape[1], inputs.shape[2])
        for each in place(found, inner, size, least=min(least), padding=predictor.mask_padding):
            if each.score < least[each.label]:
                continue
            named: dict[str, Any] = dict(predictor.named(each))
            if each.mask is not None:
                named["mask"] = from_mask(each.mask)
            objects.append(named)
        answers.append({**_size(size), "objects": objects})
    return answers


@answers_of.register
def _segments(predictor: Segmenter, prepared: list[tuple[Tensor, Size]]) -> list[dict[str, Any]]:
    answers = []
    for one in prepared:
        labels = predictor.label(*one)
        segments = [
            {
                "label": predictor.classes[place],
                "class": place,
                "share": count / labels.size,
                "mask": from_mask(labels == place),
            }
            for place, count in pixels_of_classes(labels).items()
        ]
        answers.append({**_size(one[1]), "segments": segments})
    return answers


@answers_of.register
def _depths(predictor: DepthEstimator, prepared: list[tuple[Tensor, Size]]) -> list[dict[str, Any]]:
    answers = []
    for one in prepared:
        depths = predictor.estimate(*one)
        least, median, most = least_median_most(depths)
        values = base64.b64encode(depths.astype("<f4").tobytes()).decode()
        answers.append({**_size(one[1]), "least": least, "median": median, "most": most, "depths": values})
    return answers


def _size(size: Size) -> dict[str, int]:
    return {"width": size[1], "height": size[0]}


def explained(predictor: Predictor, image: Image.Image, label: str | None = None) -> dict[str, Any]:
    """The class activation of an image that `read` gave, as a PNG over what the network saw of it.

    `InputError` for an unknown class, or an image in which a detector finds nothing.
    """
    found = attribute(predictor, image, label)
    picture = io.BytesIO()
    draw_attribution(found).save(picture, format="PNG")
    return {"label": found.label, "score": found.score, "picture": base64.b64encode(picture.getvalue()).decode()}
