"""Counts, sizes, channels and brightness of the images of a part."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from convnext.data.check.part import CheckedPart


def part_figures(part: CheckedPart, rows: np.ndarray, unreadable: set[int]) -> dict[str, Any]:
    """Figures of a part, ready for JSON: counts, and of sizes and brightness the least, the median and the most.

    Args:
        part: the images.
        rows: of `scan.ROW`, one an image.
        unreadable: places of those that cannot be read.
    """
    kept = np.ones(len(part), bool)
    kept[list(unreadable)] = False
    rows = rows[kept]
    width, height = rows["width"].astype(float), rows["height"].astype(float)
    kinds = Counter(f"{c}×{b}" for c, b in zip(rows["channels"].tolist(), rows["bits"].tolist(), strict=True))
    return {
        "images": len(part),
        "usable": part.usable(unreadable),
        "bytes": int(rows["bytes"].sum()),
        "objects": part.objects,
        "classes": _classes(part, unreadable),
        "width": _spread(width),
        "height": _spread(height),
        "aspect": _spread(width / np.maximum(height, 1)),
        "brightness": _spread(rows["brightness"]),
        "contrast": _spread(rows["contrast"]),
        "channels_and_bits": dict(kinds.most_common()),
    }


def _classes(part: CheckedPart, unreadable: set[int]) -> dict[str, dict[str, int]]:
    """Counts of each class: images that show it, and its objects or pixels where there are any."""
    found: dict[str, dict[str, int]] = {name: {} for name in part.classes}
    if part.labels:
        images = part.images_of_classes(unreadable)
        objects = Counter(label for labels in part.labels for label in labels)
        for label, name in enumerate(part.classes):
            found[name]["images"] = images[label]
            if part.objects is not None:
                found[name]["objects"] = objects[label]
    for name, pixels in (part.pixels or {}).items():
        found[name]["pixels"] = pixels
    return found


def _spread(values: np.ndarray) -> list[float]:
    if not len(values):
        return []
    return [round(float(each), 3) for each in (values.min(), np.median(values), values.max())]


def figures_line(name: str, summary: dict[str, Any]) -> str:
    """The figures of a part in one line for people."""
    if not summary["width"]:
        return f"{name}: no image can be read"
    ranges = {each: summary[each] for each in ("width", "height", "aspect", "brightness")}
    figures = ", ".join(
        f"{each} {low:g}" if low == high else f"{each} {low:g} to {high:g} (median {median:g})"
        for each, (low, median, high) in ranges.items()
    )
    kinds = ", ".join(f"{kind} ({count:,})" for kind, count in summary["channels_and_bits"].items())
    return f"{name}: {figures}; channels × bits: {kinds}"
