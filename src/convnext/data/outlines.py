"""Outlines of objects: polygons and COCO's run-length codes to masks, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as codes
from torch import Tensor


def to_code(outline: Any, width: int, height: int) -> dict[str, Any]:
    """Polygons, or either form of run-length code, as one compressed code."""
    if isinstance(outline, list):
        return codes.merge(codes.frPyObjects(outline, height, width))
    if isinstance(outline["counts"], list):
        return codes.frPyObjects(outline, height, width)
    return outline


def to_masks(outlines: Sequence[Any], width: int, height: int) -> Tensor:
    """uint8 `[n, height, width]` of 0 and 1."""
    if not outlines:
        return torch.zeros(0, height, width, dtype=torch.uint8)
    decoded = codes.decode([to_code(outline, width, height) for outline in outlines])  # [height, width, n]
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1)))


def from_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask `[height, width]` of 0 and 1 as a code that JSON can hold."""
    code = codes.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts = code["counts"]
    return {"size": list(code["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}
