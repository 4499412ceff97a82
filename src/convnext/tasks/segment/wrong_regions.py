"""Wrong regions of label maps, by the answers of a segmenter: pixels that lie together and are confidently answered
with one other class.

Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068) of pixels: each class has a threshold, its mean
probability over the pixels that carry its label, and a pixel speaks against its label where another class reaches its
own. A region counts by how seldom its label is answered so: what a segmenter confuses everywhere is its own fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from torch import Tensor, from_numpy
from torch.nn import functional as F

from convnext.data.map_loading import WholeBatch
from convnext.data.sources.label_maps import IGNORED
from convnext.inference.segmenter import Segmenter

LEAST_AREA = 2e-4
"""Share of an image that a region has at least: smaller ones are noise at borders."""
HALF_SURE_AREA = 1e-3
"""Share of an image at which a region is half as sure as a large one: a segmenter's own faults are mostly small."""
BORDER = 2
"""Pixels, of the image as the network sees it, that are taken off a region's border, where labels are never exact."""


class WrongRegion(NamedTuple):
    """Pixels of one image whose label may be wrong.

    Args:
        image: the image's place in the set.
        label: position of the class that the label map gives them.
        suggested: position of the class that is answered.
        box: x0, y0, x1, y1 around them, in the image's pixels.
        area: share of the image that they are.
        score: how sure it is, from 0 to 1.
    """

    image: int
    label: int
    suggested: int
    box: tuple[float, float, float, float]
    area: float
    score: float


def find_wrong_regions(segmenter: Segmenter, batches: Iterable[WholeBatch], habits: Habits) -> list[WrongRegion]:
    """Regions that a segmenter's answers speak against, worst first.

    Args:
        segmenter: the model.
        batches: images with their label maps.
        habits: of the segmenter (`pixel_habits`), perhaps on some of the images alone: they are means.
    """
    found = []
    for index, probabilities, truth, size in pixel_answers(segmenter, batches):
        for label, suggested, pixels in confident_regions(probabilities, truth, habits.thresholds):
            margin = float((probabilities[suggested] - probabilities[label])[pixels].mean())
            area = float(pixels.mean())
            score = max(0.0, margin) * area / (area + HALF_SURE_AREA) * (1 - float(habits.answered[label, suggested]))
            found.append(WrongRegion(index, label, suggested, box_of(pixels, size), area, score))
    return sorted(found, key=lambda region: -region.score)


PixelAnswer = tuple[int, np.ndarray, np.ndarray, tuple[int, int]]
"""Place of an image, probabilities `[K, h, w]` as the network sees it, labels `[h, w]`, and its height and width."""


def pixel_answers(segmenter: Segmenter, batches: Iterable[WholeBatch]) -> Iterator[PixelAnswer]:
    """Answers about all images that can be read; label maps are taken to the size at which the network sees."""
    averaged = len(segmenter.scales) > 1 or segmenter.flip
    for batch in batches:
        for index, image, truth in zip(batch.indices, batch.images, batch.maps, strict=True):
            scores = segmenter.scores(image).float().cpu()
            probabilities = scores if averaged else scores.softmax(0)
            labels = labels_at(from_numpy(truth.astype(np.int32)), scores.shape[1:])
            yield index, probabilities.numpy(), labels.numpy(), truth.shape


def labels_at(labels: Tensor, size: tuple[int, ...]) -> Tensor:
    """A label map `[H, W]` at another size, each pixel the nearest one's class."""
    return F.interpolate(labels[None, None].float(), size=size, mode="nearest-exact")[0, 0].int()


class Habits(NamedTuple):
    """How a segmenter answers pixels of K classes.

    Args:
        thresholds: `[K]`, mean probability of each class over the pixels that carry its label; infinite where none
            does.
        answered: `[K, K]`, share of each label's pixels (rows) that are answered as each class (columns).
    """

    thresholds: np.ndarray
    answered: np.ndarray


def pixel_habits(answers: Iterable[PixelAnswer], classes: int) -> Habits:
    """Means over all pixels of the images that are answered about."""
    sums, pairs = np.zeros(classes), np.zeros((classes, classes))
    for _, probabilities, truth, _ in answers:
        own, seen = truth[truth != IGNORED], probabilities[:, truth != IGNORED]
        sums += np.bincount(own, np.take_along_axis(seen, own[None], axis=0)[0], minlength=classes)
        pairs += np.bincount(own * classes + seen.argmax(0), minlength=classes**2).reshape(classes, classes)
    counts = pairs.sum(1)
    return Habits(np.where(counts > 0, sums / np.maximum(counts, 1), np.inf), pairs / np.maximum(counts, 1)[:, None])


def confident_regions(
    probabilities: np.ndarray, truth: np.ndarray, thresholds: np.ndarray
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Label, suggested class and pixels, bool `[h, w]`, of each region that is large enough."""
    reached = np.where(probabilities >= thresholds[:, None, None], probabilities, -np.inf)
    answer = np.where(np.isfinite(reached.max(0)), reached.argmax(0), truth)
    wrong = (answer != truth) & (truth != IGNORED)
    pairs = truth * len(thresholds) + answer
    for pair in np.unique(pairs[wrong]):
        core = ndimage.binary_opening(wrong & (pairs == pair), iterations=BORDER)
        components, count = ndimage.label(core)
        for number in range(1, count + 1):
            pixels = components == number
            if pixels.mean() >= LEAST_AREA:
                yield *divmod(int(pair), len(thresholds)), pixels


def box_of(pixels: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box around pixels, bool `[h, w]`, in an image of another height and width."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    down, across = size[0] / pixels.shape[0], size[1] / pixels.shape[1]
    return columns[0] * across, rows[0] * down, (columns[-1] + 1) * across, (rows[-1] + 1) * down
