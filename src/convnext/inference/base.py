"""Base class of predictors, which take images in any form, one or many, and answer in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from convnext.data.images.decode import read_image
from convnext.errors import ImageError, InputError
from convnext.inference.backends.network import stop_engine
from convnext.inference.exported import ExportedNetwork
from convnext.inference.reading import BATCH, Prepared, read_ahead


class Predictor(ABC):
    """A trained model that answers about images.

    Args:
        model: the network.
        classes: their names, in the order of its outputs.
        transform: how an image becomes its input: a `Preprocessing` or `WholeImage`.
    """

    backend: str = "torch"
    """Engine that computes the network, with its version where `load` chose it."""
    outputs: tuple[str, ...] = ()
    """Names of what `compute` gives, which an export holds; empty for networks that cannot be exported."""

    def __init__(self, model: nn.Module, classes: Sequence[str], transform: Any) -> None:
        self.model: Any = model.eval()
        self.classes = list(classes)
        self.transform = transform

    @property
    def device(self) -> torch.device:
        """Device of the network; an exported one runs on the CPU."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def to(self, device: torch.device | str) -> Self:
        """Move the network to a device; on another one than before PyTorch computes it, whatever did before."""
        if torch.device(device) != self.device:
            stop_engine(self.model)
            self.backend = Predictor.backend
        self.model.to(device)
        return self

    @staticmethod
    def compute(network: Any, images: Tensor) -> tuple[Tensor, ...]:
        """The `outputs` of a network about transformed images `[N, C, H, W]`."""
        return (network(images),)

    def network_outputs(self, images: Tensor) -> list[Tensor]:
        """The `outputs` of this model's network, as PyTorch computes it or an export does, about transformed images
        `[N, C, H, W]`."""
        exported = isinstance(self.model, ExportedNetwork)
        return list(self.model.run(images).values() if exported else self.compute(self.model, images))

    def calibrate(self, stored: Mapping[str, Any]) -> None:
        """Answer with calibrated scores from now on, or with each class's own threshold.

        `stored` is what `Evaluator.calibration` fitted. `InputError` for models whose answers have no scores.
        """
        raise InputError(f"a {type(self).__name__} answers without scores: there is nothing to calibrate")

    def read(self, image: Any) -> Image.Image:
        """An image in the form that the model sees: of a path, an address, a binary file, a file's bytes, a PIL image,
        a uint8 array `[H, W, 3]` or tensor `[3, H, W]`. `ImageError` for one that cannot be read."""
        return read_image(image, self.transform.mode, white=self.transform.white)

    def embed(self, images: Any, *, batch_size: int = BATCH) -> np.ndarray:
        """The embedding of one image, float32 `[width]`, or those of many, `[N, width]`.

        An image is a path, an address, a binary file, a file's bytes, a PIL image, or pixels as an array or tensor.
        `ImageError` for an image that cannot be read.
        """
        rows = self.each(images, batch_size, self.transform, self.embeddings)
        if not isinstance(images, list | tuple):
            return rows
        return np.stack(rows) if rows else np.empty((0, self.width), dtype=np.float32)

    def embeddings(self, inputs: Tensor | Sequence[Tensor]) -> list[np.ndarray]:
        """The embeddings of transformed images `[C, h, w]`, float32 `[width]` each."""
        with torch.inference_mode():
            return list(self.features(inputs).float().cpu().numpy())

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers in an embedding."""

    @abstractmethod
    def features(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """The embeddings `[N, width]` of transformed images `[C, h, w]`, which do not depend on each other."""

    @abstractmethod
    def see(
        self,
        image_size: int | None = None,
        crop: float | None = None,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> dict[str, Any]:
        """See images otherwise than the model was trained to; returns what differs, by name.

        Args:
            image_size: side of the images that a classifier sees, or short side of what others see, in pixels.
            crop: share of the resized image that a classifier's centre crop takes.
            scales: factors on the size; a segmenter's answers are averaged over them.
            flip: whether a segmenter averages in the mirrored image.
        """

    def each(
        self,
        images: Any,
        batch_size: int,
        prepare: Callable[[Image.Image], Prepared],
        answer: Callable[[list[Prepared]], Sequence[Any]],
    ) -> Any:
        """The answer about one image, or a list of the answers about many, `batch_size` of them at a time.

        `answer` takes what `prepare` makes of images that `read` gave; of many, threads read and prepare a batch ahead.
        """
        if not isinstance(images, list | tuple):
            return answer([prepare(self.read(images))])[0]
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        answers: list[Any] = []
        with read_ahead(images, self.read, prepare, ahead=batch_size) as results:
            while batch := [_sound(result) for result in islice(results, batch_size)]:
                answers += answer(batch)
        return answers


def _sound(result: Prepared | ImageError) -> Prepared:
    if isinstance(result, ImageError):
        raise result
    return result


def refuse_views(scales: Sequence[float] | None, flip: bool) -> None:
    """`InputError` for several views of an image, which only segmenters take."""
    if scales is not None or flip:
        raise InputError("--scales and --flip are for segmenters")
