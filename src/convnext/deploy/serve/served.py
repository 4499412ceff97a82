"""A model in a worker: encoded images in, JSON out."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from PIL import Image

from convnext.data.images.decode import upright_size
from convnext.errors import ImageError, InputError
from convnext.inference.backends.network import backbone_of_model
from convnext.inference.classifier import ImageClassifier
from convnext.inference.embedder import Embedder
from convnext.inference.squares import SeesSquares
from convnext.printing import printable, to_json
from convnext.tasks.load import load, task_of_weights
from convnext.weights import read_meta
from convnext.weights.files import EMBEDS
from convnext.weights.licences import LICENCE, licence_named, restriction_of

OPTIONS = ("top_k", "threshold")
"""Options of `convnext predict` that a request may have."""
TOP = 5
"""Labels of an image, where nothing else is asked for."""


class Reply(NamedTuple):
    """Answer about one image: a status of HTTP, and JSON; of an error, a line."""

    status: int
    content: bytes


def refusal_of(status: int, problem: object) -> Reply:
    """The reply that says what is wrong, in a line that any encoding takes."""
    return Reply(status, printable(problem).encode(errors="backslashreplace"))


class ServedModel:
    """A model that answers about the content of image files.

    Args:
        name: what clients call it.
        source: what `load` takes.
        pixels: of an image, at most.
        how: keywords of `load`.
    """

    def __init__(self, name: str, source: str, pixels: int, **how: Any) -> None:
        self.name, self.source, self.pixels = name, source, pixels
        self.predictor = load(source, **how)
        self.is_embedder = isinstance(self.predictor, Embedder)
        self.together = isinstance(self.predictor, SeesSquares) and self.predictor.device.type != "cpu"
        """Whether images are computed together. On a CPU nothing is gained by it, and PyTorch's last digits depend on
        how many are."""

    @property
    def labels(self) -> list[str]:
        """Names of the classes, as answers give them."""
        return self.predictor.answers if isinstance(self.predictor, ImageClassifier) else self.predictor.classes

    @property
    def kinds(self) -> list[str]:
        """Requests that it answers: of "predict", "embed" and "explain"."""
        has_weights = backbone_of_model(self.predictor.model) is not None
        can_embed = has_weights or isinstance(self.predictor, SeesSquares)
        can_explain = has_weights and bool(self.labels)
        kinds = {"predict": not self.is_embedder, "embed": can_embed, "explain": can_explain}
        return [kind for kind, can in kinds.items() if can]

    def facts(self) -> dict[str, Any]:
        """Description of the model for clients: under "labels" its classes, and under "thresholds", of detectors
        alone, the score of each from which an object counts."""
        meta, task = read_meta(self.source), task_of_weights(self.source)
        licence = licence_named(meta.get(LICENCE))
        options = [] if self.is_embedder else [each for each in OPTIONS if each in task.answer_options]
        return {
            "name": self.name,
            "task": EMBEDS if self.is_embedder else task.name,
            "answers": self.kinds,
            "options": options,
            "classes": len(self.labels),
            "engine": self.predictor.backend,
            "device": str(self.predictor.device),
            "licence": licence or None,
            "restriction": restriction_of(licence) or None,
            "labels": self.labels,
            "thresholds": self.predictor.least() if "threshold" in options else [],
        }

    def warm_up(self) -> None:
        """Answer about a grey square: engines compile at the first image, and again at the second of a shape.

        What sees squares of one size sees a second one; other models keep the computation that is for all shapes.
        """
        square = io.BytesIO()
        Image.new("RGB", (64, 64), (124, 116, 104)).save(square, format="PNG")
        for _ in range(2 if isinstance(self.predictor, SeesSquares) else 1):
            self.answer(self.kinds[0], [square.getvalue()], {})

    def answer(self, kind: str, contents: list[bytes], options: dict[str, Any]) -> list[Reply]:
        """Answers about images, in their order.

        Args:
            kind: one of `kinds`.
            contents: of image files.
            options: "top_k", or keywords of `answers_of` or `explained`.
        """
        replies: dict[int, Reply] = {}
        images: dict[int, Any] = {}
        for place, content in enumerate(contents):
            try:
                images[place] = self._opened(content)
                if kind != "explain":
                    images[place] = self.predictor.prepare(images[place])
            except _TooLarge as error:
                replies[place] = refusal_of(413, error)
            except MemoryError:
                replies[place] = refusal_of(413, "the image takes more memory than there is")
            except ImageError as error:
                replies[place] = refusal_of(422, str(error).removeprefix("image: "))
        places = [place for place in images if place not in replies]
        for group in [places] if self.together and places else [[place] for place in places]:
            try:
                found = self._computed(kind, [images[place] for place in group], options)
                answered = [Reply(200, to_json(one).encode()) for one in found]
            except InputError as error:
                answered = [refusal_of(400, error)] * len(group)
            replies.update(zip(group, answered, strict=True))
        return [replies[place] for place in range(len(contents))]

    def _opened(self, content: bytes) -> Image.Image:
        width, height = upright_size(content, name="image")
        if width * height > self.pixels:
            raise _TooLarge(f"too large: {width}×{height} pixels, the limit is {self.pixels:,}")
        return self.predictor.read(content)

    def _computed(self, kind: str, images: list[Any], options: dict[str, Any]) -> list[Any]:
        if kind == "predict" and isinstance(self.predictor, ImageClassifier):
            return [{"labels": labels} for labels in self.predictor.labels(images, options.get("top_k", TOP))]
        if kind == "predict":
            from convnext.deploy.serve.answers import answers_of

            return answers_of(self.predictor, images, **options)
        if kind == "embed":
            inputs = images if isinstance(self.predictor, SeesSquares) else [inputs for inputs, _ in images]
            return [row.tolist() for row in self.predictor.embeddings(inputs)]
        from convnext.deploy.serve.answers import explained

        return [explained(self.predictor, image, **options) for image in images]


class _TooLarge(Exception):
    """An image of more pixels than are allowed."""
