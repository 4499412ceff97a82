"""Single values of COCO's JSON, as many programs write them: ids, sizes, boxes and outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from convnext.data.rle import to_code

LARGEST_NUMBER = 1e6  # of a number that is a position; the length of an outline is memory when it is drawn
LARGEST_SIDE = 2**31 - 1
ELLIPSE_CORNERS = 32
MOST_GROUPS = 13  # of five bits in a run's length: more are beyond 64 bits

Id = int | str
PixelBox = tuple[float, float, float, float]


def read_id(value: Any) -> Id | None:
    """An id, by its value: -9, -9.0 and "-9" are one. Other text stays text; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        digits = text.removeprefix("-")
        return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else text or None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def order_of(id: Id) -> tuple[bool, int, str]:
    """The sorting key of an id: numbers come before text."""
    return (True, 0, id) if isinstance(id, str) else (False, id, "")


def read_side(value: Any) -> int | None:
    """The width or height of an image in pixels; None if the value is no such number."""
    side = read_id(value)
    return side if isinstance(side, int) and 0 < side <= LARGEST_SIDE else None


def is_number(value: Any) -> bool:
    """Whether a value can be a coordinate in an image, in pixels."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER  # nor nan


def are_numbers(values: list[Any]) -> bool:
    """Whether every value `is_number`, of lists that are long and many."""
    if not values:
        return True
    near = set(map(type, values)) <= {int, float} and min(values) > -LARGEST_NUMBER and max(values) < LARGEST_NUMBER
    return near and sum(values) == sum(values)  # of nan it is not


class Outline(NamedTuple):
    """The outline of an object: `usable` holds polygons or a run-length code, or None; `scraps` says that polygons of
    fewer than three points were dropped, `malformed` that the value is no outline."""

    usable: Any
    scraps: bool = False
    malformed: bool = False


def read_outline(value: Any, width: int, height: int) -> Outline:
    """The outline of an object in an image of that size.

    Polygons of fewer than three points are scraps, which are left out. A list of numbers is one polygon.
    """
    if value is None or value == [] or value == {}:
        return Outline(None)
    if isinstance(value, dict):
        return Outline(value) if is_code(value, width, height) else Outline(None, malformed=True)
    if not isinstance(value, list):
        return Outline(None, malformed=True)
    polygons = [value] if are_numbers(value) else value
    if not all(isinstance(polygon, list) and are_numbers(polygon) for polygon in polygons):
        return Outline(None, malformed=True)
    kept = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    return Outline(kept or None, scraps=any(polygon and polygon not in kept for polygon in polygons))


def ellipse_polygon(x: float, y: float, rx: float, ry: float) -> list[float]:
    """The polygon x, y, x, y, ... of an ellipse around a centre, with radii along the axes."""
    turns = [2 * math.pi * n / ELLIPSE_CORNERS for n in range(ELLIPSE_CORNERS)]
    return [value for turn in turns for value in (x + rx * math.cos(turn), y + ry * math.sin(turn))]


def is_code(code: dict[str, Any], width: int, height: int) -> bool:
    """Whether a value is a run-length code of an image of that size."""
    size = code.get("size")
    if not isinstance(size, list) or [read_side(side) for side in size] != [height, width]:
        return False
    counts = code.get("counts")
    if isinstance(counts, str):
        counts = _runs(counts)
    return (
        isinstance(counts, list)
        and all(isinstance(run, int) and run >= 0 for run in counts)
        and sum(counts) == width * height
    )


def _runs(code: str) -> list[int] | None:
    """The run lengths of COCO's compressed code: six bits a character, later runs as differences; None if malformed."""
    runs: list[int] = []
    value = shift = 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift >= 5 * MOST_GROUPS:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if not shift else None


def read_box(value: Any) -> PixelBox | None:
    """A box as x, y, width and height in pixels; None if the value is not four numbers."""
    if isinstance(value, list) and len(value) == 4 and are_numbers(value):
        return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))
    return None


def box_of_outline(outline: Any, width: int, height: int) -> PixelBox | None:
    """x, y, width and height of the box around an outline; None around nothing."""
    if isinstance(outline, list):
        xs, ys = ([value for polygon in outline for value in polygon[axis::2]] for axis in (0, 1))
        return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    from faster_coco_eval.core import mask as codes

    x, y, w, h = codes.toBbox(to_code(outline, width, height)).tolist()
    return (x, y, w, h) if w and h else None


def area_of_outline(outline: Any, width: int, height: int) -> float:
    """Pixels inside an outline: of polygons the sum of their areas, whatever lies over another."""
    if isinstance(outline, list):
        return sum(_area_of_polygon(polygon) for polygon in outline)
    from faster_coco_eval.core import mask as codes

    return float(codes.area(to_code(outline, width, height)))


def _area_of_polygon(polygon: Sequence[float]) -> float:
    x, y = polygon[0::2], polygon[1::2]
    corners = zip(x, y, [*x[1:], x[0]], [*y[1:], y[0]], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in corners)) / 2


def clip_box(box: PixelBox, width: int, height: int) -> PixelBox | None:
    """The part of a box x, y, width, height inside the image, as x0, y0, x1, y1; None if there is none."""
    x, y, w, h = box
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def reaches_beyond(box: PixelBox, width: int, height: int) -> bool:
    """Whether a box x, y, width, height ends beyond its image by more than rounding does."""
    x, y, w, h = box
    return x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1


def twice(values: Sequence[Any]) -> Any:
    """The first value that stands a second time; None if none does."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
