"""Packing images with boxes and outlines of objects into tar shards, which `objects` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convnext.data.exclude import read_exclude
from convnext.data.images.decode import read_bytes
from convnext.data.parts import listed_images
from convnext.data.problems import Problems, log_left_out, log_problems
from convnext.data.shards.write import (
    Sample,
    Shard,
    folder_of,
    indexed_text,
    like_an_image,
    new_folder,
    pack_parts,
    refuse_packed,
    unique_names,
    write_index,
)
from convnext.data.sources.annotated import AnnotatedImage, Annotation, DetectionSet
from convnext.data.sources.detection import find_detection, read_annotated
from convnext.data.splits import training_parts
from convnext.printing import progress


def pack_objects(
    data: str, out: Path, *, shard_bytes: int, seed: int = 0, form: str | None = None, exclude: Path | None = None
) -> tuple[list[Shard], list[str]]:
    """Copy what `convnext train detect` takes into shards in the new folder `out`, and write the index.

    Parts are those of the data: what nothing says is held out is divided when it is trained on. Files are copied as
    they are, in a random order. Of each image a member `.json` has the annotations in COCO's form, with the names of
    the classes; what is left out of them is said in the log.
    Returns the shards, and a line for each image that cannot be packed. `InputError` for data that cannot be read, or a
    folder that is in use.
    """
    refuse_packed(data)
    parts, faults = _read(data, form)
    log_problems(data, faults)
    names, whole, _ = listed_images(data, parts, read_exclude(exclude))
    new_folder(out, shard_bytes)
    packed_as = unique_names(whole.sources, folder_of(data))

    def read(place: int) -> Sample:
        image = whole.images[place]
        content = like_an_image(read_bytes(image.file), image.file)
        said = json.dumps(_as_coco(image, packed_as[place], parts[names[place]]))
        target = {"key": indexed_text(image.key), "objects": said}
        return Sample(packed_as[place], image.file.suffix, content, {".json": said.encode()}, (), target, place)

    with progress("packing", len(whole)) as done:
        shards, failures = pack_parts(out, names, read, names=parts, seed=seed, shard_bytes=shard_bytes, done=done)
    ids = {part: list(own.category_ids) for part, own in parts.items()}
    write_index(out, whole.classes, shards, {"holds": "objects", "category_ids": ids})
    return shards, failures


def _read(data: str, form: str | None) -> tuple[dict[str, DetectionSet], Problems]:
    """All parts, with the classes of those that are trained on: others' objects are left out, as in measuring."""
    available = find_detection(data, form).parts
    trained = training_parts(data, available) if {"", "train"} & set(available) else tuple(available)
    parts, faults = read_annotated(data, only=trained, form=form)
    if others := [part for part in available if part not in trained]:
        classes = next(iter(parts.values())).classes
        more = read_annotated(data, only=others, classes=classes, form=form)
        log_left_out(f"{data} ({', '.join(others)})", more.faults)
        parts = {**parts, **more.parts}
    return parts, faults


def _as_coco(image: AnnotatedImage, name: str, data: DetectionSet) -> dict[str, Any]:
    return {
        "id": image.id,
        "file_name": name,
        "width": image.width,
        "height": image.height,
        "left_out": image.left_out,
        "annotations": [_row(each, data) for each in image.annotations],
    }


def _row(each: Annotation, data: DetectionSet) -> dict[str, Any]:
    x0, y0, x1, y1 = each.box
    row = {
        "category": data.classes[each.label],
        "category_id": data.category_ids[each.label],
        # Added to x0, the difference is x1 to the last bit: every edge is such a sum, rounded, or a whole number.
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": each.area,
        "iscrowd": int(each.crowd),
    }
    return row if each.outline is None else {**row, "segmentation": each.outline}
