"""Networks without classes, whose answer about an image is an embedding: a vector to compare it by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from convnext.data.images.preprocessing import Preprocessing
from convnext.inference.base import BATCH
from convnext.inference.squares import SeesSquares
from convnext.models.classifier import Classifier


class Embedder(SeesSquares):
    """Turns images into embeddings.

    Of a network without a head they are the pooled and normalised features. A pre-training run's encoder has no last
    norm: its are the pooled features as they are. Of a network whose head is a projection, as CLIP's is, they are what
    the head gives; they are not scaled to length 1.

    Args:
        model: the network; its outputs are the embeddings.
        preprocessing: how an image becomes its input.
    """

    outputs = ("embedding",)

    def __init__(self, model: Classifier, preprocessing: Preprocessing) -> None:
        super().__init__(model, (), preprocessing)

    def __call__(self, images: Any, *, batch_size: int = BATCH) -> Any:
        """The embedding of one image, float32 `[width]`, or of many, `[N, width]`; the same as `embed`."""
        return self.embed(images, batch_size=batch_size)

    @property
    def width(self) -> int:
        return self.model.num_classes or self.model.num_features

    def features(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        return self.model(self.batch(inputs))
