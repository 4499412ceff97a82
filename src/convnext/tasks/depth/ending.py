"""Sentences on the results of a depth run: the metrics, and where the model is worst."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convnext.printing import counted, share
from convnext.tasks.depth.metrics import BINS, MeasuredDepths

NO_DEPTH = "no depth of the validation images is known"
RANGES = 3
"""Ranges of distance that are compared, of about as many pixels each."""


def errors_in_words(metrics: Mapping[str, float], images: int) -> str:
    """Sentence on the metrics that `depth_metrics` computed on this number of validation images."""
    if not images:
        return f"nothing was measured: {NO_DEPTH}"
    off = f"depths are off by {share(metrics['abs_rel'])} on average (abs_rel)"
    near = f"{metrics['delta1']:.2f} % of pixels by less than a factor of 1.25 (delta1)"
    return f"{off}, {near}, on {counted(images, 'validation image')}"


def weakest_distance(measured: MeasuredDepths) -> str:
    """The range of true distance with the largest error, as a share of the distance, and the others'."""
    found = ranges_of(measured)
    if not found:
        return f"not known: {NO_DEPTH}"
    if not any(error for _, _, error in found):
        return "nothing: every depth is right"
    (near, far, error), *others = sorted(found, key=lambda each: -each[2])
    text = f"where the truth is {_number(near)} to {_number(far)}, depths are off by {share(error)} on average"
    if not others:
        return f"{text}; there are no other distances"
    return text + "".join(f"; {_number(a)} to {_number(b)}: {share(own)}" for a, b, own in sorted(others))


def ranges_of(measured: MeasuredDepths) -> list[tuple[float, float, float]]:
    """Up to `RANGES` ranges of about as many pixels: from, to, and the mean of |depth - truth| / truth, nearest first.

    Borders are those of the bins, of which a distance is rounded by up to 4.4 %.
    """
    places = sorted(measured.errors)
    pixels, errors = (np.array([measured.errors[place][i] for place in places]) for i in (0, 1))
    if not len(places):
        return []
    middles = (pixels.cumsum() - pixels / 2) / pixels.sum()
    own = (RANGES * middles).astype(int)
    return [
        (
            2 ** (places[inside[0]] / BINS),
            2 ** ((places[inside[-1]] + 1) / BINS),
            float(errors[inside].sum() / pixels[inside].sum()),
        )
        for k in range(RANGES)
        if len(inside := np.flatnonzero(own == k))
    ]


def _number(value: float) -> str:
    """Two digits, which are all that bins tell."""
    return f"{float(f'{value:.2g}'):g}"
