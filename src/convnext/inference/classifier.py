"""From a trained classifier to labels of images. Imports little, so that a first answer comes soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from convnext.data.images.preprocessing import Preprocessing
from convnext.errors import InputError, WeightsError
from convnext.inference.base import BATCH
from convnext.inference.calibrated import CalibratedLabels
from convnext.inference.embedder import Embedder
from convnext.inference.squares import SeesSquares
from convnext.models.classifier import Classifier, create_model
from convnext.weights import describe, published_classes, read_state
from convnext.weights.files import EMBEDS


class Label(TypedDict):
    """A class and its score, from 0 to 1."""

    label: str
    score: float


class ImageClassifier(CalibratedLabels, SeesSquares):
    """Classifies images. Their embeddings are the pooled and normalised features that the head sees.

    Args:
        model: the network.
        classes: a name for each of its outputs.
        preprocessing: how an image becomes its input.
        multi_label: scores are independent of each other (sigmoid) instead of summing to 1 (softmax).
        descriptions: what to call a class in an answer, where its name is a code.
    """

    outputs = ("logits", "embedding")

    def __init__(
        self,
        model: Classifier,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        multi_label: bool = False,
        descriptions: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(model, classes, preprocessing)
        self.multi_label = multi_label
        self.answers = [(descriptions or {}).get(name, name) for name in self.classes]

    def restrict(self, classes: Sequence[str]) -> list[str]:
        """Choose among these classes alone, from now on; returns those that the model does not know, whose scores are
        0. `InputError` for an exported model, whose outputs are fixed."""
        if not hasattr(self.model, "head"):
            raise InputError("the outputs of an exported model are fixed: evaluate it with --classes model")
        place = {name: i for i, name in enumerate(self.classes)}
        rows = torch.tensor([place.get(name, -1) for name in classes], device=self.device)
        unknown = rows < 0
        head = nn.Linear(self.model.head.in_features, len(classes), device="meta")
        weight, bias = (each.detach()[rows] for each in (self.model.head.weight, self.model.head.bias))
        head.weight = nn.Parameter(weight.masked_fill(unknown[:, None], 0.0), requires_grad=False)
        head.bias = nn.Parameter(bias.masked_fill(unknown, -torch.inf), requires_grad=False)
        self.model.head, self.model.whole_engine = head, None
        answers = dict(zip(self.classes, self.answers, strict=True))
        self.classes = list(classes)
        self.answers = [answers.get(name, name) for name in classes]
        return [name for name in classes if name not in place]

    @staticmethod
    def compute(network: Any, images: Tensor) -> tuple[Tensor, ...]:
        embedding = network.embed(images)
        return network.head(network.pre_logits(embedding)), embedding

    def __call__(self, images: Any, top_k: int = 5, *, batch_size: int = BATCH) -> Any:
        """Labels of one image, or a list of the labels of each of many.

        An image is a path, an address, a binary file, a file's bytes, a PIL image, or pixels as an array or tensor.
        Labels are `[{"label", "score"}, ...]`, best first, at most `top_k` of them; of a calibrated model of several
        labels an image, those that reach their threshold. `ImageError` for an image that cannot be read.
        """
        return self.each(images, batch_size, self.prepare, lambda inputs: self.labels(inputs, top_k))

    def labels(self, inputs: Tensor | Sequence[Tensor], top_k: int) -> list[list[Label]]:
        """The `top_k` best labels of each of the preprocessed images `[C, H, W]`."""
        best = self.scores(self.batch(inputs)).topk(min(top_k, len(self.classes)))
        return [
            [
                {"label": self.answers[i], "score": score}
                for score, i in zip(scores, indices, strict=True)
                if self.thresholds is None or score >= self.thresholds[i]
            ]
            for scores, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def scores(self, inputs: Tensor) -> Tensor:
        """Preprocessed images `[N, C, H, W]` to scores `[N, classes]`."""
        logits = self.model(inputs.to(self.device)).float() / self.temperature
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)

    @property
    def width(self) -> int:
        return self.model.num_features

    def features(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        return self.model.embed(self.batch(inputs))


def build_classifier(source: str | Path) -> ImageClassifier | Embedder:
    """The classifier whose weights are at `source`, in any layout; an `Embedder` if it has no head, or a projection."""
    state, meta = read_state(source)
    architecture = describe(state)
    with torch.device("meta"):
        model = create_model(
            architecture.variant,
            num_classes=architecture.num_classes,
            in_chans=architecture.in_chans,
            stem_patch=architecture.stem_patch,
            layer_scale_init=1e-6 if architecture.layer_scale else 0.0,
        )
        if not architecture.num_classes and "norm.weight" not in state:
            model.norm = nn.Identity()  # an encoder of pre-training has no last norm
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False)
    return classifier_of(model, meta)


def classifier_of(model: Any, meta: dict[str, Any]) -> ImageClassifier | Embedder:
    """The classifier, or `Embedder`, on a network, as its metadata describe it. `WeightsError` as of `usage_of`."""
    use = usage_of(meta, model.num_classes, model.in_chans)
    if not use.classes:
        return Embedder(model, use.preprocessing)
    return ImageClassifier(
        model, use.classes, use.preprocessing, multi_label=use.multi_label, descriptions=use.descriptions
    )


class Usage(NamedTuple):
    """How a network of so many outputs is used; without classes it gives embeddings."""

    preprocessing: Preprocessing
    classes: list[str]
    descriptions: dict[str, str]
    multi_label: bool


def usage_of(meta: dict[str, Any], num_classes: int, in_chans: int) -> Usage:
    """How a network is used by its metadata, completed by ImageNet's classes and the papers' preprocessing.

    `WeightsError` for metadata that name another number of classes than the network has outputs.
    """
    stored, size = meta.get("preprocessing"), meta.get("image_size", 224)
    seen = Preprocessing.from_dict(stored) if stored else Preprocessing.standard(size, in_chans)
    if not num_classes or meta.get("task") == EMBEDS:
        return Usage(seen, [], {}, False)
    if "classes" not in meta:
        meta = published_classes(num_classes) | meta
    classes = meta.get("classes")
    if classes is not None and not (len(classes) == num_classes and all(isinstance(name, str) for name in classes)):
        raise WeightsError(f"the file names {len(classes)} classes, and its head has {num_classes}")
    named = list(classes or map(str, range(num_classes)))
    return Usage(seen, named, dict(meta.get("descriptions") or {}), bool(meta.get("multi_label", False)))
