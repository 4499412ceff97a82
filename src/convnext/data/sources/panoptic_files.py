"""Recognising panoptic COCO, a JSON file of segments beside a folder of pictures whose colours are their ids."""

from __future__ import annotations

import re
from pathlib import Path

from convnext.data.sources.coco import CocoPart, find_coco_parts, json_files, part_of_file, parts_of_files
from convnext.data.sources.documents import ends_of
from convnext.data.sources.finder import settled_parts
from convnext.data.splits import UNDIVIDED


def find_panoptic_parts(data: Path) -> dict[str, CocoPart]:
    """The parts of a folder, or of a JSON file, by name; none for another form."""
    if data.is_file():
        return {UNDIVIDED: part_of_file(data)} if data.suffix.lower() == ".json" and is_panoptic(data) else {}
    return settled_parts(parts_of_files([path for path in json_files(data) if is_panoptic(path)], data))


def is_panoptic(path: Path) -> bool:
    """Whether a JSON file looks like panoptic COCO's, by its ends."""
    return re.search(rb'"(segments_info|isthing)"\s*:', ends_of(path)) is not None


def is_panoptic_alone(data: Path) -> bool:
    """Whether a folder, or a JSON file, is panoptic COCO without JSON of objects, which COCO's own has."""
    files = [file for part in find_coco_parts(data).values() for file in part.files]
    return bool(files) and all(map(is_panoptic, files))


def folders_of_panoptic_maps(folder: Path) -> list[Path]:
    """The folders of maps in a folder."""
    return [file.with_suffix("") for part in find_panoptic_parts(folder).values() for file in part.files]
