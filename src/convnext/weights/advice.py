"""Published weights that a training from random ones could start from."""

from __future__ import annotations

from convnext.variants import VARIANTS
from convnext.weights.licences import restriction_of
from convnext.weights.published import PUBLISHED, PublishedWeights


def better_start(model: str) -> str | None:
    """In a line, published classifiers of the model, and the nearest in size that are free to use; None without any."""
    own, free = nearest_weights(model, free=False), nearest_weights(model, free=True)
    named = [
        f"--model {weights.variant} --init {weights.name} "
        f"({weights.licence}{f': {terms}' if (terms := restriction_of(weights.licence)) else ', free to use'})"
        for weights in (own, free)
        if weights is not None
    ]
    if not named:
        return None
    return "starting from random weights; for photographs and similar images, published weights are far better: " + (
        ", or ".join(dict.fromkeys(named))
    )


def nearest_weights(model: str, *, free: bool) -> PublishedWeights | None:
    """The best weights of a classifier of `model`'s own kind; with `free`, of the nearest in size without restrictions.

    Best is the highest top-1 at up to 256 pixels, at which most are trained.
    """
    own = VARIANTS[model]
    found = [
        weights
        for weights in PUBLISHED
        if weights.num_classes
        and weights.image_size <= 256
        and weights.top1 is not None
        and VARIANTS[weights.variant].is_hierarchical == own.is_hierarchical
        and (not restriction_of(weights.licence) if free else weights.variant == model)
    ]

    def rank(weights: PublishedWeights) -> tuple[float, float]:
        larger = VARIANTS[weights.variant].parameters / own.parameters
        return max(larger, 1 / larger), -(weights.top1 or 0)

    return min(found, key=rank, default=None)
