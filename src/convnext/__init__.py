"""ConvNeXt V2 from end to end. Names load what they need when first used; the import itself loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convnext.api import (
        TrainingResult,
        pretrain,
        train_classifier,
        train_depth_estimator,
        train_detector,
        train_segmenter,
    )
    from convnext.deploy.benchmark import benchmark
    from convnext.deploy.convert import convert
    from convnext.deploy.export.write import export
    from convnext.deploy.push.upload import PushedRun, push
    from convnext.deploy.sizes import SizeRow, measure_models
    from convnext.deploy.space.folder import Space, write_space
    from convnext.errors import ImageError, InputError, Stopped, WeightsError
    from convnext.inference.base import Predictor
    from convnext.inference.classifier import ImageClassifier, Label
    from convnext.inference.depth import DepthEstimator
    from convnext.inference.detector import DetectedObject, Detector
    from convnext.inference.embedder import Embedder
    from convnext.inference.segmenter import Segmenter
    from convnext.models.classifier import create_model
    from convnext.models.detection.rcnn import create_detector
    from convnext.models.fcmae import create_fcmae
    from convnext.models.segmentation.upernet import create_segmenter
    from convnext.tasks.check import DataCheck
    from convnext.tasks.evaluate import evaluate
    from convnext.tasks.load import load
    from convnext.train.check import check
    from convnext.variants import list_models
    from convnext.weights import load_weights, save_weights
    from convnext.weights.zoo import list_weights

__version__ = "0.1.0"

_HOME = {
    "DataCheck": "convnext.tasks.check",
    "DepthEstimator": "convnext.inference.depth",
    "DetectedObject": "convnext.inference.detector",
    "Detector": "convnext.inference.detector",
    "Embedder": "convnext.inference.embedder",
    "ImageClassifier": "convnext.inference.classifier",
    "ImageError": "convnext.errors",
    "InputError": "convnext.errors",
    "Label": "convnext.inference.classifier",
    "Predictor": "convnext.inference.base",
    "PushedRun": "convnext.deploy.push.upload",
    "Segmenter": "convnext.inference.segmenter",
    "SizeRow": "convnext.deploy.sizes",
    "Space": "convnext.deploy.space.folder",
    "Stopped": "convnext.errors",
    "TrainingResult": "convnext.api",
    "WeightsError": "convnext.errors",
    "benchmark": "convnext.deploy.benchmark",
    "check": "convnext.train.check",
    "convert": "convnext.deploy.convert",
    "create_detector": "convnext.models.detection.rcnn",
    "create_fcmae": "convnext.models.fcmae",
    "create_model": "convnext.models.classifier",
    "create_segmenter": "convnext.models.segmentation.upernet",
    "evaluate": "convnext.tasks.evaluate",
    "export": "convnext.deploy.export.write",
    "list_models": "convnext.variants",
    "list_weights": "convnext.weights.zoo",
    "load": "convnext.tasks.load",
    "load_weights": "convnext.weights",
    "measure_models": "convnext.deploy.sizes",
    "pretrain": "convnext.api",
    "push": "convnext.deploy.push.upload",
    "save_weights": "convnext.weights",
    "train_classifier": "convnext.api",
    "train_depth_estimator": "convnext.api",
    "train_detector": "convnext.api",
    "train_segmenter": "convnext.api",
    "write_space": "convnext.deploy.space.folder",
}

__all__ = [
    "DataCheck",
    "DepthEstimator",
    "DetectedObject",
    "Detector",
    "Embedder",
    "ImageClassifier",
    "ImageError",
    "InputError",
    "Label",
    "Predictor",
    "PushedRun",
    "Segmenter",
    "SizeRow",
    "Space",
    "Stopped",
    "TrainingResult",
    "WeightsError",
    "__version__",
    "benchmark",
    "check",
    "convert",
    "create_detector",
    "create_fcmae",
    "create_model",
    "create_segmenter",
    "evaluate",
    "export",
    "list_models",
    "list_weights",
    "load",
    "load_weights",
    "measure_models",
    "pretrain",
    "push",
    "save_weights",
    "train_classifier",
    "train_depth_estimator",
    "train_detector",
    "train_segmenter",
    "write_space",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convnext' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
