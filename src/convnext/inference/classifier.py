"""From a trained model to answers about images. Imports little, so that a first answer comes soon."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnext.data.images.decode import read_image
from convnext.data.images.preprocessing import Preprocessing
from convnext.errors import InputError, WeightsError
from convnext.models.classifier import Classifier, create_model
from convnext.weights import describe, published_classes, read_meta, read_state, read_tensors

log = logging.getLogger("convnext")


class Predictor:
    """Classifies images.

    Args:
        model: the network.
        classes: a name for each of its outputs.
        preprocessing: how an image becomes its input.
        multi_label: scores are independent of each other (sigmoid) instead of summing to 1 (softmax).
        descriptions: what to call a class in an answer, where its name is a code.
    """

    def __init__(
        self,
        model: Classifier,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        multi_label: bool = False,
        descriptions: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.classes, self.preprocessing = model.eval(), list(classes), preprocessing
        self.multi_label = multi_label
        self.answers = [(descriptions or {}).get(name, name) for name in self.classes]

    def resize(self, image_size: int | None, crop: float | None = None) -> dict[str, float]:
        """See images at another size or with another crop than the model was trained for; what differs is logged, and
        returned by name."""
        before = self.preprocessing
        if image_size is not None:
            self.preprocessing = replace(self.preprocessing, image_size=image_size)
        if crop is not None:
            self.preprocessing = replace(self.preprocessing, crop=crop)
        if self.preprocessing != before:
            now = self.preprocessing
            size, stored = f"{now.image_size} pixels, crop {now.crop:g}", f"{before.image_size}, {before.crop:g}"
            log.info("images are seen at %s; the model was trained for %s", size, stored)
        names = ("image_size", "crop")
        return {
            n: getattr(self.preprocessing, n) for n in names if getattr(self.preprocessing, n) != getattr(before, n)
        }

    def __call__(self, images: Any, top_k: int = 5) -> Any:
        """Labels of one image, or of each in a list.

        An image is a path, a binary file, a PIL image or pixels (`data.decode.read_image`).
        Returns `[{"label", "score"}, ...]`, best
        first, at most `top_k` of them; for a list of images a list of such lists. `ImageError` for one
        that cannot be read.
        """
        if isinstance(images, list | tuple):
            return [self(image, top_k) for image in images]
        image = read_image(images, self.preprocessing.mode, white=self.preprocessing.white)
        return self.labels(self.preprocessing(image)[None], top_k)[0]

    def labels(self, inputs: Tensor, top_k: int) -> list[list[dict[str, str | float]]]:
        """The `top_k` best labels of each of the preprocessed images `[N, C, H, W]`."""
        best = self.scores(inputs).topk(min(top_k, len(self.classes)))
        return [
            [{"label": self.answers[i], "score": score} for score, i in zip(scores, indices, strict=True)]
            for scores, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def scores(self, inputs: Tensor) -> Tensor:
        """Preprocessed images `[N, C, H, W]` to scores `[N, classes]`."""
        device = next(self.model.parameters()).device
        logits = self.model(inputs.to(device)).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)


def load(source: str | Path) -> Any:
    """A Predictor from a run directory, a weight file, a published name or `hf:ORG/NAME`; of a detector, a `Detector`;
    of a segmenter, a `Segmenter`.

    Weights without classes of their own get ImageNet's where they have 1000 outputs, else "0", "1", ...;
    weights without preprocessing get the paper's at the size they were trained at, where that is known, else 224.

    Raises:
        WeightsError: nothing there, not a ConvNeXt, no head, or not to be trusted.
    """
    try:
        return _load(source)
    except MemoryError:
        raise
    except InputError as error:
        raise error if str(source) in str(error) else WeightsError(f"{source}: {error}") from error
    except Exception as error:  # what strangers write into a file raises nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(f"{source} does not hold a model that this version can use: {reason}") from error


def _load(source: str | Path) -> Any:
    task = (meta := read_meta(source)).get("task")
    if task == "detect":
        from convnext.inference.detector import build_detector

        return build_detector(read_tensors(source), meta)
    if task == "segment":
        from convnext.inference.segmenter import build_segmenter

        return build_segmenter(read_tensors(source), meta)
    state, meta = read_state(source)
    architecture = describe(state)
    if not architecture.num_classes:
        raise WeightsError(f"{source} has no head to predict with; train one: convnext train classify --init {source}")
    with torch.device("meta"):
        model = create_model(
            architecture.variant,
            num_classes=architecture.num_classes,
            in_chans=architecture.in_chans,
            stem_patch=architecture.stem_patch,
            layer_scale_init=1e-6 if architecture.layer_scale else 0.0,
        )
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False)
    if "classes" not in meta:
        meta = published_classes(architecture.num_classes) | meta
    classes, outputs = meta.get("classes"), architecture.num_classes
    if classes is not None and not (len(classes) == outputs and all(isinstance(name, str) for name in classes)):
        raise WeightsError(f"{source} names {len(classes)} classes, and its head has {outputs}")
    stored = meta.get("preprocessing")
    size = meta.get("image_size", 224)
    return Predictor(
        model,
        meta.get("classes") or [str(i) for i in range(architecture.num_classes)],
        Preprocessing.from_dict(stored) if stored else Preprocessing.standard(size, architecture.in_chans),
        multi_label=meta.get("multi_label", False),
        descriptions=meta.get("descriptions"),
    )
