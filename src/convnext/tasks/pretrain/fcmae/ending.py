"""Sentences on the results of a pre-training run: loss, probes, and the block nearest to collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convnext.analysis.collapse import COLLAPSED
from convnext.printing import counted


def loss_in_words(metrics: Mapping[str, float], images: int, probed: int) -> str:
    """Sentence on the loss over the training images and, if they were computed, the probes' accuracy."""
    text = f"mean squared error {metrics['loss']:.4f} on hidden patches of {counted(images, 'training image')} (loss)"
    if "knn" in metrics:
        text += (
            f"; by frozen features, {metrics['knn']:.2f} % of {counted(probed, 'validation image')} are right with "
            f"nearest neighbours (knn), {metrics['linear_probe']:.2f} % with a linear classifier (linear_probe)"
        )
    return text


def weakest_block(distances: Sequence[float | None], depths: Sequence[int]) -> str:
    """The block whose channels are most alike, and whether that is a collapse.

    Args:
        distances: each block's, as `feature_distances` gives them; None for what was not finite.
        depths: blocks of each stage.
    """
    known = [(distance, place) for place, distance in enumerate(distances) if distance is not None]
    if not known:
        return "not known: no block's features are finite"
    distance, place = min(known)
    stages = [stage for stage, depth in enumerate(depths, 1) for _ in range(depth)]
    verdict = "collapsed, its channels are all alike" if distance < COLLAPSED else "no collapse"
    where = f"block {place + 1} of {len(distances)}, in stage {stages[place]}"
    return f"{where}: its channels differ least, by {distance:.4f} (feature_distance); {verdict} (under {COLLAPSED})"
