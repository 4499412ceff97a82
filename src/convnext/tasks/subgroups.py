"""Metrics of a trained model by group of images: groups of a table, or such as the images themselves say."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from convnext.analysis.plots import plot_groups
from convnext.analysis.subgroups import (
    LEAST_IMAGES,
    Gap,
    GroupMetrics,
    Measure,
    in_quarters,
    largest_gap,
    measure_group,
    pairs_of,
    places_by_value,
)
from convnext.data.groups import cell_text
from convnext.data.image_set import source_files
from convnext.data.images.decode import read_bytes
from convnext.data.sources.crops import Crops
from convnext.data.sources.tables import rows_of_images
from convnext.errors import ImageError, InputError
from convnext.printing import counted, progress, shown_name, to_json
from convnext.reports.tables import Table
from convnext.storage.files import whole_file

log = logging.getLogger("convnext")

FEWEST_NUMBERS = 10
"""Different numbers in a column from which they are taken in quarters."""
NONE = "not stated"
"""Group of the images of which the table does not say it."""
GROUPS_FILE = "groups.json"


class Subgroups(NamedTuple):
    """Metrics by group, and the largest gaps of the most important one."""

    metric: str
    groups: list[GroupMetrics]
    gaps: list[Gap]


def measure_subgroups(columns: Mapping[str, Sequence[str]], measure: Measure, metric: str, resamples: int) -> Subgroups:
    """Metrics of all images, of the groups of each column, and of each two columns; values are those of N images."""
    everything = ["all"] * len(next(iter(columns.values()), ()))
    divided = {
        by: places_by_value(values) for by, values in {"all": everything, **columns, **pairs_of(columns)}.items()
    }
    groups: list[GroupMetrics] = []
    gaps = []
    with progress("groups", sum(map(len, divided.values()))) as advance:
        for by, places in divided.items():
            own = []
            for group, chosen in places.items():
                own.append(measure_group(by, group, chosen, measure, resamples))
                advance()
            groups += own
            if (gap := largest_gap(own, metric)) is not None:
                gaps.append(gap)
    return Subgroups(metric, groups, gaps)


def group_columns(
    part: Any, open_image: Callable[[int], Image.Image], data: str, table: Path | None, by: Sequence[str] | None
) -> tuple[dict[str, list[str]], list[int]]:
    """Values of N images in each column, and the images' places in the part.

    Args:
        part: what is measured; its `sources` are files.
        open_image: gives the image at a place.
        data: where it lies; a table's paths may be relative to it.
        table: CSV, TSV or Parquet with a column of paths; images without a row are left out.
        by: columns of the table, or of `COLUMNS_OF_IMAGES`; None: all of the table's.

    Raises:
        InputError: no table and no column, an unknown one, or a table without a row for any image.
    """
    if table is None and not by:
        raise InputError(f"--by names none of {', '.join(COLUMNS_OF_IMAGES)}, and there is no table of groups")
    rows = {} if table is None else rows_of_table(table, _files(part), data)
    places = list(range(len(part))) if table is None else sorted(rows)
    if table is not None and len(places) < len(part):
        log.warning("%s has no row for %s: left out", table, counted(len(part) - len(places), "image"))
    known = [] if table is None else [name for name in rows[places[0]] if name not in ("label", "labels", "split")]
    columns = {}
    for name in by or known:
        if name in known:
            columns[name] = group_names([rows[place][name] for place in places])
        elif name in COLUMNS_OF_IMAGES:
            columns[name] = COLUMNS_OF_IMAGES[name](part, open_image, places)
        else:
            raise InputError(f"--by {name}: no such column; there are {', '.join([*known, *COLUMNS_OF_IMAGES])}")
    return columns, places


def rows_of_table(table: Path, files: Sequence[str], data: str) -> dict[int, dict[str, Any]]:
    """Rows by the place of their image, of which several may be cut from one file. `InputError` for a table without a
    row for any."""
    own = list(dict.fromkeys(files))
    found = {own[place]: row for place, row in rows_of_images(table, own, data).items()}
    if not found:
        raise InputError(f"{table} has no row for any image that is measured: {files[0]} is one")
    return {place: found[file] for place, file in enumerate(files) if file in found}


def _files(part: Any) -> Sequence[str]:
    return source_files(getattr(part, "members", None), part.sources)


def group_names(cells: Sequence[Any]) -> list[str]:
    """Cells of a column as names of groups; many different numbers are taken in quarters."""
    texts = [cell_text(cell) or "" for cell in cells]
    numbers = [number_of(text) for text in texts]
    all_numbers = all(number is not None for number, text in zip(numbers, texts, strict=True) if text)
    if all_numbers and len(set(numbers) - {None}) > FEWEST_NUMBERS:
        return quarters_of(numbers)
    return [text or NONE for text in texts]


def quarters_of(numbers: Sequence[float | None]) -> list[str]:
    """Quarters of numbers, of which some are not known."""
    known = [number for number in numbers if number is not None]
    names = iter(in_quarters(known) if known else [])
    return [NONE if number is None else next(names) for number in numbers]


def number_of(text: str) -> float | None:
    """The finite number that a text is; None for another text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def by_folder(part: Any, open_image: Callable[[int], Image.Image], places: Sequence[int]) -> list[str]:
    """Name of the folder or shard that each image lies in."""
    files = _files(part)
    return [Path(files[place]).parent.name for place in places]


def by_size(part: Any, open_image: Callable[[int], Image.Image], places: Sequence[int]) -> list[str]:
    """Quarter of each image's size, the square root of its pixels."""
    return of_images(open_image, places, lambda image: round(math.sqrt(image.width * image.height)))


def by_brightness(part: Any, open_image: Callable[[int], Image.Image], places: Sequence[int]) -> list[str]:
    """Quarter of each image's mean brightness, from 0 to 255."""
    return of_images(open_image, places, lambda image: round(float(np.asarray(image.convert("L")).mean()), 1))


def of_images(
    open_image: Callable[[int], Image.Image], places: Sequence[int], measure: Callable[[Image.Image], float]
) -> list[str]:
    """Quarters of a number of each image."""
    numbers: list[float | None] = []
    for place in places:
        try:
            numbers.append(measure(open_image(place)))
        except ImageError:
            numbers.append(None)
    return quarters_of(numbers)


def by_camera(part: Any, open_image: Callable[[int], Image.Image], places: Sequence[int]) -> list[str]:
    """Model of the camera that each file names (EXIF)."""
    members, files = getattr(part, "members", None), _files(part)

    def content(place: int) -> bytes:
        if members is None or isinstance(members, Crops):  # a box has pixels alone, and names no camera
            return read_bytes(files[place])
        return members.read(place)

    return [camera_of(partial(content, place)) for place in places]


def camera_of(content: Callable[[], bytes]) -> str:
    """The camera's model, as the content of an image file names it."""
    try:
        with Image.open(BytesIO(content())) as image:
            return str(image.getexif().get(0x0110) or "").strip() or NONE
    except Exception:  # damaged headers raise nearly anything
        return NONE


COLUMNS_OF_IMAGES = {"folder": by_folder, "size": by_size, "brightness": by_brightness, "camera": by_camera}
"""Columns that the images themselves give."""


def write_subgroups(out: Path, found: Subgroups, data: str, split: str) -> None:
    """Write `groups.csv`, a row a group and metric, `groups.json` and `groups.png` into a folder.

    `groups.json` also names the data, without their folder, and their part that was measured.
    """
    Table(out, "groups.csv").write(rows_of(found), ("by", "group", "images", "metric", "value", "low", "high"))
    with whole_file(out / GROUPS_FILE) as path:
        stored = {"data": shown_name(data), "split": split, **groups_stored(found)}
        path.write_text(to_json(stored, indent=2) + "\n", encoding="utf-8", errors="surrogateescape")
    plot_groups(found.groups, found.metric, out / "groups.png")


def rows_of(found: Subgroups) -> list[dict[str, Any]]:
    """A row a group and metric; without an interval for groups that are too small."""
    rows = []
    for group in found.groups:
        for name, value in group.metrics.items():
            low, high = group.intervals.get(name, ("", ""))
            own = {"metric": name, "value": value, "low": low, "high": high}
            rows.append({"by": group.by, "group": group.group, "images": group.images, **own})
    return rows


def groups_stored(found: Subgroups) -> dict[str, Any]:
    """Content of `groups.json`, but for what was measured."""
    groups = [
        {
            "by": group.by,
            "group": group.group,
            "images": group.images,
            "too_small": group.images < LEAST_IMAGES,
            "metrics": dict(group.metrics),
            "intervals": {name: list(ends) for name, ends in group.intervals.items()},
        }
        for group in found.groups
    ]
    return {"metric": found.metric, "groups": groups, "gaps": [gap._asdict() for gap in found.gaps]}
