"""Reading images with objects from tar shards of this machine, as `pack_objects` packs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.images.decode import MAX_PIXELS
from convnext.data.problems import Problems
from convnext.data.shards.members import places_of
from convnext.data.shards.read import ShardIndex, local_index, unreadable_index, what_is_packed
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet, read_annotation
from convnext.data.sources.coco_fields import read_id, read_side


class ObjectsPart(NamedTuple):
    """One part of a folder of shards, whose index is `whole`."""

    folder: Path
    whole: ShardIndex
    part: str


def find_object_shards(data: Path) -> dict[str, ObjectsPart]:
    """The parts of a folder of shards of images with objects, by name; none of other data."""
    if what_is_packed(data) != "objects":
        return {}
    index = local_index(data)
    return {part: ObjectsPart(data, index, part) for part in dict.fromkeys(index.splits)}


def read_object_shards(found: ObjectsPart, faults: Problems) -> DetectionSet:
    """The images of a part, with the classes of all. `InputError` for an index that cannot be read."""
    folder, index, part = found
    try:
        places_of(index, folder)
        ids = index.said["category_ids"][part]
        if len(ids) != len(index.classes) or any(read_id(id) is None for id in ids):
            raise ValueError("its classes have no ids")
        tars = [index.files[at] for at in index.shard.tolist()]
        own = [index.splits[at] == part for at in index.shard.tolist()]
        keys, documents = (index.table.column(each).to_pylist() for each in ("key", "objects"))
        rows = [
            row for row, is_own in zip(zip(tars, index.names, keys, documents, strict=True), own, strict=True) if is_own
        ]
        labels = {name: label for label, name in enumerate(index.classes)}
        images = [_image(folder / tar / name, key, json.loads(said), labels, faults) for tar, name, key, said in rows]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise unreadable_index(folder, error) from None
    return DetectionSet(index.classes, tuple(ids), tuple(images))


def _image(file: Path, key: str, said: dict[str, Any], labels: dict[str, int], faults: Problems) -> AnnotatedImage:
    id, width, height, left_out = (
        read_id(said["id"]),
        read_side(said["width"]),
        read_side(said["height"]),
        said["left_out"],
    )
    if id is None or width is None or height is None or width * height > MAX_PIXELS:
        raise ValueError(f"{key} has no size or id")
    if type(left_out) is not int or left_out < 0 or not isinstance(key, str):
        raise ValueError(f"it does not say how many objects of {key} are left out")
    annotations = []
    for at, row in enumerate(said["annotations"], start=1):
        name = f"{key}, object {at}"
        read = read_annotation(row, name, labels[row["category"]], width, height, faults)
        if not isinstance(read, Annotation):
            raise ValueError(f"{name}: {read}")
        annotations.append(read)
    return AnnotatedImage(id, file, key, width, height, tuple(annotations), left_out)
