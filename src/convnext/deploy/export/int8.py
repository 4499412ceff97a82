"""Weights and activations in 8 bits: post-training quantisation of an OpenVINO model by NNCF."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convnext.data.sources.image_files import find_images
from convnext.deploy.export.formats import needs, quietly
from convnext.errors import InputError
from convnext.inference.backends import pixels_of
from convnext.inference.backends.openvino import core
from convnext.inference.base import Predictor

CALIBRATED = 300
"""Images that the ranges of activations are measured on, at most."""
PRECISE = ["ReduceL2", "ReduceMean", "Divide", "MVN"]
"""OpenVINO's operators that are not computed in 8 bits: those of GRN, and LayerNorm's."""


def quantiser(
    predictor: Predictor, folder: str | Path, statistics: list[list[float]] | None = None
) -> Callable[[Any], Any]:
    """A function that quantises an OpenVINO model of the predictor's network.

    Up to `CALIBRATED` images of `folder`, evenly spread over their sorted paths, are seen as the predictor sees them,
    one by one; as pixels where the model normalises them by `statistics`, mean and deviation of each channel.

    Raises:
        InputError: no images there, or NNCF is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # NNCF would tell Google Analytics of each use
    with needs("nncf"), quietly():
        import nncf
    found = find_images(folder)
    if not found:
        raise InputError(f"{folder} holds no images")
    places = np.linspace(0, len(found) - 1, min(len(found), CALIBRATED)).round().astype(int)
    chosen = [found[place] for place in places]

    def inputs(path: Path) -> np.ndarray:
        images = predictor.transform(predictor.read(path))[None].numpy()
        return images if statistics is None else pixels_of(images, statistics)

    def quantise(model: Any) -> Any:
        # ModelType.TRANSFORMER makes models that OpenVINO does not compile on a CPU.
        scope = nncf.IgnoredScope(types=PRECISE, validate=False)
        core()  # before NNCF makes its own, which then goes first
        with quietly():
            return nncf.quantize(model, nncf.Dataset(chosen, inputs), subset_size=CALIBRATED, ignored_scope=scope)

    return quantise
