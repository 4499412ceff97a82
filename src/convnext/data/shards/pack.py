"""Packing images and their classes into tar shards (`data.shards.read`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from convnext.data.exclude import read_exclude
from convnext.data.image_set import divide_listing, without_excluded
from convnext.data.images.decode import read_bytes
from convnext.data.shards.shrink import shrink
from convnext.data.shards.write import (
    Sample,
    Shard,
    folder_of,
    like_an_image,
    name_below,
    new_folder,
    pack_parts,
    refuse_packed,
    write_index,
)
from convnext.data.sources.frames import FRAME_RATE
from convnext.data.sources.listing import read_listing, read_unlabelled_listing
from convnext.data.splits import HoldOut
from convnext.errors import InputError
from convnext.printing import progress


def pack_shards(
    data: str,
    out: Path,
    *,
    shard_bytes: int,
    short_side: int | None = None,
    labels: bool = True,
    multi_label: bool = False,
    val_fraction: float = 0.2,
    seed: int = 0,
    form: str | None = None,
    exclude: Path | None = None,
    frame_rate: float = FRAME_RATE,
) -> tuple[list[Shard], list[str]]:
    """Copy images into shards in the new folder `out`, those of each split in a random order, and write the index.

    `data` is what is trained on, of the form `form`; without `labels`, what is pre-trained on, of videos `frame_rate`
    frames a second; what the file `exclude` lists is left out. Files are copied as they are, if they begin like images;
    training reports those that are damaged, by their names. With `short_side`, in pixels, larger ones are decoded and
    made so small (`data.shards.shrink`).
    Returns the shards, and a line for each file that cannot be packed. `InputError` for data that cannot be read, or a
    folder that is in use.
    """
    if shard_bytes < 1:
        raise InputError(f"a shard must have a size, not {shard_bytes} bytes")
    if short_side is not None and short_side < 1:
        raise InputError(f"an image must have a size, not {short_side} pixels")
    refuse_packed(data)
    everything = read_listing(data, None, multi_label, form) if labels else read_unlabelled_listing(data, frame_rate)
    listing, _ = without_excluded(data, everything, read_exclude(exclude))
    if labels:
        listing, _ = divide_listing(listing, HoldOut(val_fraction), multi_label)
    if listing.images is not None:
        raise InputError(f"{data} are no files; train on them as they are")
    new_folder(out, shard_bytes)
    root = folder_of(data)
    position = {name: number for number, name in enumerate(listing.classes)}

    def read(place: int) -> Sample:
        entry = listing.entries[place]
        content = read_bytes(entry.source) if listing.members is None else listing.members.read(place)
        like_an_image(content, entry.source)
        if short_side is not None:
            content = shrink(content, short_side, name=entry.source)
        beside = _label_members([position[label] for label in entry.labels])
        return Sample(name_below(entry.source, root), Path(entry.source).suffix, content, beside, entry.labels)

    with progress("packing", len(listing.entries)) as done:
        parts, names = [entry.part for entry in listing.entries], ("train", "val", "test")
        shards, failures = pack_parts(out, parts, read, names=names, seed=seed, shard_bytes=shard_bytes, done=done)
    write_index(out, listing.classes, shards)
    return shards, failures


def _label_members(labels: Sequence[int]) -> dict[str, bytes]:
    """Labels under the names that other readers of WebDataset's form look for; ours reads the index."""
    if len(labels) == 1:
        return {".cls": str(labels[0]).encode()}
    return {".json": json.dumps({"labels": list(labels)}).encode()} if labels else {}
