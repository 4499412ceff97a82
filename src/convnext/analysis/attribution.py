"""Class activation: which places of an image an answer rests on.

Grad-CAM (Selvaraju et al., arXiv 1610.02391), HiResCAM (Draelos and Carin, arXiv 2011.08891) and LayerCAM (Jiang et
al., IEEE TIP 2021) on the output of a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from convnext.data.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, picture_of
from convnext.errors import InputError, nearest
from convnext.inference.backends.network import without_engine
from convnext.inference.base import Predictor
from convnext.inference.classifier import ImageClassifier
from convnext.inference.detector import Detector
from convnext.inference.segmenter import Segmenter
from convnext.nn.backbone import ConvNeXt

Method = Literal["gradcam", "hirescam", "layercam"]


class NothingFound(InputError):
    """A detector finds no object of the class in the image."""


class Attribution(NamedTuple):
    """Map of the places in an image that speak for a class.

    Args:
        label: name of the class.
        score: probability that the network gives the class; of segmenters, the share of pixels that have it.
        places: `[H, W]`, from 0 to 1, over `picture`; 0 everywhere where nothing speaks for the class.
        picture: the image as the network saw it.
        box: x0, y0, x1, y1 in `picture`'s pixels of the object that was found, of detectors.
    """

    label: str
    score: float
    places: np.ndarray
    picture: Image.Image
    box: list[float] | None = None


class Answer(NamedTuple):
    """Answer of a network about an image: a class's position and score, its logit, which can be differentiated, and of
    detectors the object's box."""

    label: int
    score: float
    logit: Tensor
    box: list[float] | None = None


def attribute(
    predictor: Predictor, image: Any, label: str | None = None, *, method: Method = "gradcam", stage: int = -1
) -> Attribution:
    """The places of an image that speak for a class.

    Args:
        predictor: an `ImageClassifier`, a `Detector` or a `Segmenter` of weights; of a detector its best object's class
            is explained, of a segmenter all pixels that it gives the class.
        image: a path, a binary file, a file's bytes, a PIL image, or pixels as an array or tensor.
        label: the class; None for the network's own answer.
        method: "gradcam" weighs channels by their mean gradient, "hirescam" every value by its own gradient, "layercam"
            by its positive part.
        stage: whose output is looked at, from 1; -1 is the last, whose maps are the coarsest.

    Raises:
        ImageError: an image that cannot be read.
        InputError: a predictor without classes, an exported one, an unknown class or stage, or an image in which a
            detector finds nothing of the class.
    """
    explain = explanation_of(predictor)
    backbone = predictor.model if isinstance(predictor, ImageClassifier) else predictor.model.backbone
    if not isinstance(backbone, ConvNeXt):
        raise InputError("an exported network cannot be looked into; the weights that it was made from can")
    count = len(backbone.stages)
    if not (stage == -1 or 1 <= stage <= count):
        raise InputError(f"the network has stages 1 to {count}, not {stage}")
    number = count if stage == -1 else stage
    stride = backbone.total_stride // 2 ** (count - number)  # pixels of a position of the map
    wanted = None if label is None else position_of(label, predictor)
    inputs = predictor.transform(predictor.read(image)).to(predictor.device)
    maps: list[Tensor] = []

    def take(layer: Any, given: Any, output: Tensor) -> Tensor:
        maps.append(output.detach().requires_grad_())
        return maps[-1]

    blocks: Any = backbone.stages[number - 1]
    handle = blocks[-1].register_forward_hook(take)
    try:
        with without_engine(predictor.model), torch.enable_grad():  # only PyTorch's operators have gradients
            answer = explain(inputs, wanted)
            gradient = torch.autograd.grad(answer.logit, maps[-1])[0]
    finally:
        handle.remove()
    places = class_activation(maps[-1].detach().float(), gradient.float(), method)
    return Attribution(
        names_of(predictor)[answer.label],
        answer.score,
        enlarged(places[0], stride, (inputs.shape[1], inputs.shape[2])),
        picture_of(inputs.cpu(), *statistics_of(predictor)),
        answer.box,
    )


def class_activation(maps: Tensor, gradient: Tensor, method: Method = "gradcam") -> Tensor:
    """A stage's output and the gradient at it, `[N, h, w, C]`, to what speaks for the class, `[N, h, w]`, not
    negative."""
    if method == "gradcam":
        weights = gradient.mean(dim=(1, 2), keepdim=True)
    else:
        weights = gradient if method == "hirescam" else gradient.relu()
    return (weights * maps).sum(dim=-1).relu()


def enlarged(places: Tensor, stride: int, size: tuple[int, int]) -> np.ndarray:
    """A map `[h, w]` of positions of `stride` pixels to an image's height and width, from 0 to 1.

    What the network was padded with, at the right and bottom, is cut off.
    """
    large = F.interpolate(places[None, None], scale_factor=float(stride), mode="bilinear", align_corners=False)
    kept = large[0, 0, : size[0], : size[1]].cpu()
    return (kept / kept.max().clamp(min=1e-12)).numpy()


def explanation_of(predictor: Predictor) -> Callable[[Tensor, int | None], Answer]:
    """Function from a transformed image and a class, or None for the predictor's own choice, to the `Answer`.

    `InputError` for a predictor without classes.
    """
    if isinstance(predictor, ImageClassifier):
        return lambda inputs, label: class_of(predictor, inputs, label)
    if isinstance(predictor, Detector):
        return lambda inputs, label: object_of(predictor, inputs, label)
    if isinstance(predictor, Segmenter):
        return lambda inputs, label: region_of(predictor, inputs, label)
    raise InputError("attribution explains a class, and this network names none")


def class_of(predictor: ImageClassifier, inputs: Tensor, label: int | None) -> Answer:
    """A class of the whole image."""
    logits = predictor.model(inputs[None])[0].float()
    chosen = int(logits.argmax()) if label is None else label
    scaled = logits.detach() / predictor.temperature
    scores = scaled.sigmoid() if predictor.multi_label else scaled.softmax(-1)
    return Answer(chosen, scores[chosen].item(), logits[chosen])


def object_of(predictor: Detector, inputs: Tensor, label: int | None) -> Answer:
    """The best object, of a class or of all: what the last stage says of the box that was found."""
    model: Any = predictor.model
    with torch.no_grad():
        found = model([inputs])[0]
    rows = range(len(found.labels)) if label is None else (found.labels == label).nonzero()[:, 0].tolist()
    if not rows:
        raise NothingFound(f"no {'object' if label is None else predictor.classes[label]} is found in the image")
    best, box = int(found.labels[rows[0]]), found.boxes[rows[0]]
    pooled = model.pooled(model.box_pool, model.grouped([inputs]), [box[None]])
    logits, _ = model.box_stages[-1].head(pooled)
    return Answer(best, found.scores[rows[0]].item(), logits[0, 1 + best].float(), box.tolist())


def region_of(predictor: Segmenter, inputs: Tensor, label: int | None) -> Answer:
    """All pixels of a class, or of the class that has most; the whole image, where no pixel has the class."""
    logits = predictor.model(inputs[None])[0].float()
    best = logits.argmax(0)
    chosen = int(best.flatten().bincount().argmax()) if label is None else label
    own = best == chosen
    share = own.float().mean().item()
    return Answer(chosen, share, (logits[chosen][own] if share else logits[chosen]).sum())


def names_of(predictor: Predictor) -> list[str]:
    """Names of a predictor's classes, as its answers give them."""
    return predictor.answers if isinstance(predictor, ImageClassifier) else predictor.classes


def position_of(label: str, predictor: Predictor) -> int:
    """A class's position, by its name or by what it means. `InputError` for one that the model does not know."""
    for names in (predictor.classes, names_of(predictor)):
        if label in names:
            return names.index(label)
    raise InputError(f"the model has no class '{label}'; {nearest(label, names_of(predictor))}")


def statistics_of(predictor: Predictor) -> tuple[Any, Any]:
    """Mean and deviation by which a predictor normalises images."""
    seen = predictor.transform
    return (seen.mean, seen.std) if isinstance(seen, Preprocessing) else (IMAGENET_MEAN, IMAGENET_STD)


def draw_attribution(found: Attribution) -> Image.Image:
    """The image under colours from none, where nothing speaks for the class, to yellow; with the object's box."""
    from matplotlib import colormaps

    picture = np.asarray(found.picture.convert("RGB"), dtype=np.float64)
    share = 0.6 * found.places[..., None]
    mixed = (1 - share) * picture + share * 255 * colormaps["inferno"](0.4 + 0.6 * found.places)[..., :3]
    drawn = Image.fromarray(mixed.round().astype(np.uint8))
    if found.box is not None:
        ImageDraw.Draw(drawn).rectangle(found.box, outline="white", width=2)
    return drawn
