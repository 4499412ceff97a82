"""Detection in images far larger than those of training: square by square, and the squares' answers joined."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torchvision.ops import batched_nms

from convnext.inference.detector import Detector, Found

OVERLAP = 0.25
"""Share of a square's side that the next one covers again."""


def tile_starts(length: int, side: int) -> list[int]:
    """Even positions at which squares of `side` begin: all is covered, with overlaps of `OVERLAP` at least."""
    if length <= side:
        return [0]
    count = -(-(length - side) // max(1, int(side * (1 - OVERLAP)))) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def smallest_overlap(starts: list[int], side: int) -> int:
    """The least that two squares in a row share, in pixels; 0 of one square."""
    return min((side - (after - before) for before, after in pairwise(starts)), default=0)


def find_in_tiles(detector: Detector, image: Image.Image, side: int, *, least: float = 0.0) -> list[Found]:
    """The objects of an image, each of its squares seen by itself, with at least that score; best first.

    What a square's inner edge cuts is left to the next square, which has it whole, unless it is larger than their
    overlap. What two squares found is joined by the detector's own rule of overlap.
    """
    found: list[tuple[int, int, Found]] = []
    tops, lefts = tile_starts(image.height, side), tile_starts(image.width, side)
    shared = smallest_overlap(lefts, side), smallest_overlap(tops, side)
    for top in tops:
        for left in lefts:
            square = image.crop((left, top, min(left + side, image.width), min(top + side, image.height)))
            objects = detector.find([detector.transform(square)], [(square.height, square.width)], least=least)[0]
            whole = [each for each in objects if not _is_cut(each, square, left, top, image, shared)]
            found += [(left, top, each) for each in whole]
    if not found:
        return []
    boxes = torch.tensor([each.box for _, _, each in found])
    boxes += torch.tensor([[left, top] * 2 for left, top, _ in found])
    scores, labels = (torch.tensor([getattr(each, name) for _, _, each in found]) for name in ("score", "label"))
    kept = batched_nms(boxes, scores, labels, detector.model.NMS_IOU).tolist()
    # Only now are masks made as large as the image.
    return [_moved(*found[i], box=boxes[i].tolist(), image=image) for i in kept]


def _is_cut(each: Found, square: Image.Image, left: int, top: int, image: Image.Image, shared: tuple[int, int]) -> bool:
    """Whether a square's inner edge cuts an object that is narrower, or lower, than what neighbours share."""
    x0, y0, x1, y1 = each.box
    across = (x0 < 1 and left > 0) or (x1 > square.width - 1 and left + square.width < image.width)
    down = (y0 < 1 and top > 0) or (y1 > square.height - 1 and top + square.height < image.height)
    return (across and x1 - x0 < shared[0]) or (down and y1 - y0 < shared[1])


def _moved(left: int, top: int, each: Found, *, box: list[float], image: Image.Image) -> Found:
    mask = None
    if each.mask is not None:
        mask = np.zeros((image.height, image.width), dtype=bool)
        height, width = each.mask.shape
        mask[top : top + height, left : left + width] = each.mask
    return Found(each.label, each.score, box, mask)
