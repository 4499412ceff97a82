"""Packing images with label maps into tar shards, which `maps` reads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convnext.data.exclude import read_exclude
from convnext.data.images.decode import read_bytes, upright_size
from convnext.data.parts import listed_images
from convnext.data.problems import log_problems
from convnext.data.shards.maps import MapMeaning
from convnext.data.shards.read import MAP_SUFFIX
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
from convnext.data.sources import segmentation
from convnext.data.sources.label_maps import HIGHEST, LABEL_KIND, LabelRules, SegmentationSet, listed_numbers
from convnext.data.sources.map_layouts import layout_name
from convnext.data.sources.maps import MappedImage, check_sizes
from convnext.errors import ImageError
from convnext.printing import progress

NO_CLASS = -1
"""Number of what is no class in maps of colours, which no picture can hold."""


def pack_maps(
    data: str, out: Path, *, shard_bytes: int, seed: int = 0, form: str | None = None, exclude: Path | None = None
) -> tuple[list[Shard], list[str]]:
    """Copy what `convnext train segment` takes into shards in the new folder `out`, and write the index.

    Parts are those of the data: what nothing says is held out is divided when it is trained on. Images are copied as
    they are, in a random order; a member `.seg.png` of each is its label map, whatever the data have instead: colours
    are numbers then, and outlines are drawn. Numbers mean what the rules of a training say, as before.
    Returns the shards, and a line for each image that cannot be packed. `InputError` for data that cannot be read, or a
    folder that is in use.
    """
    refuse_packed(data)
    name, found = segmentation.find_label_parts(data, form)
    # Without a class around them, the classes of outlines are those of the objects alone.
    rules = LabelRules(ignore_index=0) if name in segmentation.DETECTION_FORMATS else LabelRules()
    parts, faults = segmentation.read_label_maps(data, rules, form=form)
    log_problems(data, faults)
    names, whole, _ = listed_images(data, parts, read_exclude(exclude))
    new_folder(out, shard_bytes)
    packed_as = unique_names(whole.sources, folder_of(data))
    meaning = _meaning(data, name, found, whole)

    def read(place: int) -> Sample:
        image = whole.images[place]
        content = like_an_image(read_bytes(image.file), image.file)
        numbers = whole.numbers(image)
        check_sizes(image, upright_size(content, name=str(image.file)), numbers, kind=LABEL_KIND)
        beside = {MAP_SUFFIX: _as_png(image, numbers, meaning.void)}
        return Sample(packed_as[place], image.file.suffix, content, beside, (), {"key": indexed_text(image.key)}, place)

    with progress("packing", len(whole)) as done:
        shards, failures = pack_parts(out, names, read, names=parts, seed=seed, shard_bytes=shard_bytes, done=done)
    write_index(out, whole.classes, shards, {"holds": "maps", "maps": meaning.said()})
    return shards, failures


def _meaning(data: str, form: str, found: Mapping[str, Any], whole: SegmentationSet) -> MapMeaning:
    void = 255 if len(whole.classes) <= 255 else HIGHEST
    if form == segmentation.PANOPTIC:
        return MapMeaning("segments", LabelRules(), void)
    if form != segmentation.MAPS:
        return MapMeaning("outlines", LabelRules())
    if whole.colours is not None:
        return MapMeaning("colours", LabelRules(), void)
    layout = layout_name(next(iter(found.values())))
    rules = segmentation.listed_classes(Path(data), layout, LabelRules(), dict(found))[1]
    return MapMeaning("numbers" if segmentation.own_list(Path(data)) is not None else "published", rules)


def _as_png(image: MappedImage, numbers: np.ndarray, void: int | None) -> bytes:
    """A label map as a grey picture. `ImageError` for one with a number that such a picture cannot hold."""
    values = np.asarray(numbers, dtype=np.int64)
    if void is not None:
        values = np.where(values == NO_CLASS, void, values)
    outside = values[(values < 0) | (values > HIGHEST)]
    if outside.size:
        said = listed_numbers(np.unique(outside).tolist())
        raise ImageError(f"{image.map}: numbers that no packed label map can hold, or colours of no class: {said}")
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)).save(file, "PNG")
    return file.getvalue()
