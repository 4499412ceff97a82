"""ConvNeXt V2 from end to end. Names load what they need when first used; the import itself loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convnext.errors import ImageError, InputError, WeightsError
    from convnext.inference.classifier import Predictor, load
    from convnext.models.classifier import create_model
    from convnext.models.fcmae import create_fcmae
    from convnext.variants import list_models
    from convnext.weights import load_weights, save_weights

__version__ = "0.1.0"

_HOME = {
    "ImageError": "convnext.errors",
    "InputError": "convnext.errors",
    "Predictor": "convnext.inference.classifier",
    "WeightsError": "convnext.errors",
    "create_fcmae": "convnext.models.fcmae",
    "create_model": "convnext.models.classifier",
    "list_models": "convnext.variants",
    "load": "convnext.inference.classifier",
    "load_weights": "convnext.weights",
    "save_weights": "convnext.weights",
}

__all__ = [
    "ImageError",
    "InputError",
    "Predictor",
    "WeightsError",
    "__version__",
    "create_fcmae",
    "create_model",
    "list_models",
    "load",
    "load_weights",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convnext' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
