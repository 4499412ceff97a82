"""Weights: files in every layout, the published ones, and what fits where. Names load their modules when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convnext.weights.architecture import Architecture, describe
    from convnext.weights.class_names import classes_for, imagenet_classes, published_classes
    from convnext.weights.files import are_trained, read_meta, read_state, read_tensors, save_state
    from convnext.weights.fit import LoadReport, MismatchError, load_weights, save_weights
    from convnext.weights.zoo import find, list_weights

_HOME = {
    "Architecture": "convnext.weights.architecture",
    "LoadReport": "convnext.weights.fit",
    "MismatchError": "convnext.weights.fit",
    "are_trained": "convnext.weights.files",
    "classes_for": "convnext.weights.class_names",
    "describe": "convnext.weights.architecture",
    "find": "convnext.weights.zoo",
    "imagenet_classes": "convnext.weights.class_names",
    "list_weights": "convnext.weights.zoo",
    "load_weights": "convnext.weights.fit",
    "published_classes": "convnext.weights.class_names",
    "read_meta": "convnext.weights.files",
    "read_state": "convnext.weights.files",
    "read_tensors": "convnext.weights.files",
    "save_state": "convnext.weights.files",
    "save_weights": "convnext.weights.fit",
}

__all__ = [
    "Architecture",
    "LoadReport",
    "MismatchError",
    "are_trained",
    "classes_for",
    "describe",
    "find",
    "imagenet_classes",
    "list_weights",
    "load_weights",
    "published_classes",
    "read_meta",
    "read_state",
    "read_tensors",
    "save_state",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
