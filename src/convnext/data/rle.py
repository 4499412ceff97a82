"""Outlines of objects: polygons and COCO's run-length codes to masks, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from faster_coco_eval.core import mask as codes

if TYPE_CHECKING:
    from torch import Tensor


def to_code(outline: Any, width: int, height: int) -> dict[str, Any]:
    """Polygons, or either form of run-length code, as one compressed code."""
    if isinstance(outline, list):
        near = [part for polygon in outline if len(part := bounded(polygon, width, height)) >= 6]
        nothing = [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
        return codes.merge(codes.frPyObjects(near or nothing, height, width))
    if isinstance(outline["counts"], list):
        return codes.frPyObjects(outline, height, width)
    return outline


def bounded(polygon: list[float], width: int, height: int) -> list[float]:
    """A polygon x, y, x, y, … without what lies more than the image's size beyond it: inside, it is the same.

    Drawing takes memory by the length of the outline, and a stranger's points may lie anywhere. It is clipped at one
    side after the other (Sutherland and Hodgman 1974).
    """
    points = list(zip(polygon[0::2], polygon[1::2], strict=True))
    for axis, size in ((0, width), (1, height)):
        for sign, limit in ((1, 2 * size), (-1, size)):
            if all(sign * point[axis] <= limit for point in points):
                continue
            kept = []
            for before, point in zip([points[-1], *points[:-1]], points, strict=True):
                inside = sign * point[axis] <= limit
                if inside != (sign * before[axis] <= limit):
                    share = (sign * limit - before[axis]) / (point[axis] - before[axis])
                    kept.append(
                        (before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1]))
                    )
                if inside:
                    kept.append(point)
            points = kept
            if not points:
                return []
    return [value for point in points for value in point]


def to_masks(outlines: Sequence[Any], width: int, height: int) -> Tensor:
    """uint8 `[n, height, width]` of 0 and 1."""
    import torch  # here, since forms of data are told apart without it

    if not outlines:
        return torch.zeros(0, height, width, dtype=torch.uint8)
    decoded = codes.decode([to_code(outline, width, height) for outline in outlines])  # [height, width, n]
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1)))


def from_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask `[height, width]` of 0 and 1 as a code that JSON can hold."""
    code = codes.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts = code["counts"]
    return {"size": list(code["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def place_mask(mask: np.ndarray, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """The code of an image of which a mask `[h, w]` of 0 and 1 covers what begins at column `x` and row `y`."""
    whole = np.zeros((height, width), dtype=np.uint8)
    x, y, mask = max(0, x), max(0, y), mask[max(0, -y) :, max(0, -x) :]
    whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask[: max(0, height - y), : max(0, width - x)]
    return from_mask(whole)
