"""Weights that are set by hand, so that real networks, and exports of them, say of red, green and blue what they are.

The stem keeps the mean colour of each patch of 4 by 4 pixels, in six channels that add up to 0; the blocks add nothing;
and a LayerNorm over C channels scales a colour to the length √(C / 2).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from stubs import CLASSES
from torch import Tensor, nn

import convnext
from convnext.data.images.preprocessing import Preprocessing
from convnext.models.segmentation.upernet import create_segmenter
from convnext.nn.backbone import ConvNeXt
from convnext.nn.norm import LayerNorm

MODEL, SIZE = "convnextv2_atto", 32
PARTS = {"fpn_dim": 4, "aux_dim": 4}
SHARPNESS = 0.1
"""Of the classifier's logits."""


def keep(weight: Tensor, channels: int, share: float = 1.0) -> None:
    """Pass the first channels on, each for itself: `[out, in, …]`, by this share of every tap."""
    for i in range(channels):
        weight[i, i] = share


@torch.no_grad()
def plant(network: nn.Module, backbone: ConvNeXt) -> None:
    """Weights of the backbone, and of the other parts zeros and norms that change nothing."""
    for parameter in network.parameters():
        parameter.zero_()
    for module in network.modules():
        if isinstance(module, LayerNorm | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    stem = next(module for module in backbone.downsample_layers[0].modules() if isinstance(module, nn.Conv2d))
    keep(stem.weight, 3, 1 / 16)
    stem.weight[3:6] = -stem.weight[:3]
    for layer in list(backbone.downsample_layers)[1:]:
        conv = next(module for module in layer.modules() if isinstance(module, nn.Conv2d))
        keep(conv.weight, 6, 1 / 4)


def plant_classifier(place: Path) -> Path:
    """Its logits are a colour's direction, as `scores_of` has it."""
    network = convnext.create_model(MODEL, num_classes=3)
    plant(network, network)
    with torch.no_grad():
        keep(network.head.weight, 3, SHARPNESS)
    meta = {"task": "classify", "classes": CLASSES, "preprocessing": Preprocessing.standard(SIZE).to_dict()}
    convnext.save_weights(network, place, meta=meta)
    return place


def scores_of(colour: tuple[int, int, int]) -> dict[str, float]:
    """The planted classifier's scores of an image of one colour."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    seen = (np.array(colour) / 255 - mean) / deviation
    logits = SHARPNESS * math.sqrt(convnext.create_model(MODEL).num_features / 2) * seen / np.linalg.norm(seen)
    shares = np.exp(logits) / np.exp(logits).sum()
    return dict(zip(CLASSES, shares.tolist(), strict=True))


def plant_segmenter(place: Path, short: int) -> Path:
    """Each patch of the stem is of its own colour's class; images are seen at a short side of so many pixels."""
    network = create_segmenter(MODEL, num_classes=3, **PARTS)
    plant(network, network.backbone)
    with torch.no_grad():
        keep(network.lateral[0].conv.weight, 3)
        for conv in (network.smooth[0].conv, network.fuse.conv):
            for i in range(3):
                conv.weight[i, i, 1, 1] = 1.0
        keep(network.classify[1].weight, 3)
    meta = {"task": "segment", "model": MODEL, "classes": CLASSES, "parts": PARTS, "testing": {}}
    convnext.save_weights(network, place, meta={**meta, "transform": {"short": short, "long": 10 * short}})
    return place
