"""A classifier's export without PyTorch, whose import alone would take longer than the first answer.

A compiled package is the exception: its engine is PyTorch, and nothing but that is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convnext.data.images.decode import read_image
from convnext.data.images.preprocessing import Preprocessing
from convnext.inference.backends import open_engine
from convnext.inference.calibrated import CalibratedLabels
from convnext.storage.exports import check_device, check_precision, export_meta, is_export
from convnext.weights.licences import warn_of_licence

if TYPE_CHECKING:
    from convnext.inference.classifier import Label


class PortableClassifier(CalibratedLabels):
    """Labels images by an export, as `ImageClassifier` does.

    Args:
        path: an exported model.
        meta: what it says of itself.
        backend: its engine, as `open_engine` takes it.
        precision: "fp32", or that of the export.
        device: "auto" or "cpu".

    Raises:
        WeightsError: it cannot be run here.
        InputError: an engine that does not run such files, or another precision or device.
    """

    def __init__(
        self,
        path: Path,
        meta: dict[str, Any],
        backend: str = "auto",
        precision: str = "fp32",
        device: str = "auto",
    ) -> None:
        check_precision(path, meta, precision)
        check_device(path, device)
        self.engine = open_engine(path, meta, backend)
        self.transform = Preprocessing.from_dict(meta["preprocessing"])
        self.most, self.multi_label = meta["export"]["batch"][1], bool(meta.get("multi_label", False))
        self.answers = [meta.get("descriptions", {}).get(name, name) for name in meta["classes"]]
        warn_of_licence(path, meta)

    def read(self, image: Any) -> Image.Image:
        """An image in the form that the model sees. `ImageError` for one that cannot be read."""
        return read_image(image, self.transform.mode, white=self.transform.white)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """A preprocessed image, float32 `[C, H, W]`."""
        return self.transform.array(image)

    def labels(self, inputs: Sequence[np.ndarray], top_k: int) -> list[list[Label]]:
        """The `top_k` best labels of each of the preprocessed images."""
        logits = self.engine(np.stack(inputs))[0].astype(np.float64) / self.temperature
        if self.multi_label:
            scores = 1 / (1 + np.exp(-logits))
        else:
            scores = np.exp(logits - logits.max(1, keepdims=True))
            scores /= scores.sum(1, keepdims=True)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        return [
            [
                {"label": self.answers[i], "score": float(own[i])}
                for i in places
                if self.thresholds is None or own[i] >= self.thresholds[i]
            ]
            for own, places in zip(scores, best, strict=True)
        ]


def portable(source: str, task: str) -> tuple[Path, dict[str, Any]] | None:
    """Path and metadata of an export that `PortableClassifier` takes; None for every other source.

    `task` is the name that classifiers' metadata store.

    `WeightsError` for an export that is damaged, or not of this project.
    """
    path = Path(source)
    if not is_export(path) or not path.is_file():
        return None
    meta = export_meta(path)
    return (path, meta) if meta.get("task", task) == task and meta.get("classes") else None
