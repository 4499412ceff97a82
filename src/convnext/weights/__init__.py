"""Weights: files in every layout, the published ones, and what fits where."""

from convnext.weights.architecture import Architecture, describe
from convnext.weights.class_names import classes_for, imagenet_classes, published_classes
from convnext.weights.files import are_trained, read_meta, read_state, read_tensors, save_state
from convnext.weights.fit import LoadReport, MismatchError, load_weights, save_weights
from convnext.weights.zoo import find, list_weights

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
