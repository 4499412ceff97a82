"""Sentences on the results of a pre-training run: loss, probes, and blocks that have collapsed."""

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
    """The blocks that have collapsed; where none has, the one whose channels are most alike.

    Args:
        distances: each block's, as `feature_distances` gives them; None for what was not finite.
        depths: blocks of each stage.
    """
    known = [(distance, place) for place, distance in enumerate(distances) if distance is not None]
    if not known:
        return "not known: no block's features are finite"
    dead = [place for distance, place in known if distance < COLLAPSED]
    distance, place = min(known)
    differ = f"by {distance:.2g} (feature_distance; collapsed under {COLLAPSED})"
    if dead:
        *others, last = [str(place + 1) for place in dead]
        which = f"blocks {', '.join(others)} and {last}" if others else f"block {last}"
        vary, add = ("vary", "add") if others else ("varies", "adds")
        return (
            f"{which} of {len(distances)} no longer {vary} over the image and {add} nothing: "
            f"channels differ {differ} at least"
        )
    stages = [stage for stage, depth in enumerate(depths, 1) for _ in range(depth)]
    where = f"block {place + 1} of {len(distances)}, in stage {stages[place]}"
    return f"no block has collapsed; {where}, is the nearest to it: its channels differ {differ}"
