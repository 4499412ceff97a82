"""Fingerprints of training data, by which a resumed run knows whether they are the same, wherever they lie."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.image_set import ImageSet
from convnext.data.shards.members import find_member
from convnext.data.sources.annotated import DetectionSet
from convnext.data.sources.hub import fetched
from convnext.data.sources.label_maps import SegmentationSet
from convnext.data.sources.maps import MappedSet
from convnext.printing import first_names

READERS = 16
"""Threads that ask the file system for sizes; one thread would take minutes for a million files on a network."""


class FileState(NamedTuple):
    """Size of a file in bytes, and when it was changed, in nanoseconds; -1 where it cannot be looked at."""

    size: int
    changed: int


def of_samples(data: str, samples: ImageSet, *, labels: bool = True) -> dict[str, Any]:
    """Fingerprint of labelled images; without `labels`, of the images alone."""
    targets: Iterable[Any] = samples.targets if labels else [None] * len(samples)
    on_disc = samples.images is None and samples.members is None
    return _fingerprint(data, samples.sources, targets, samples.classes if labels else (), on_disc)


def of_annotated(data: str, images: DetectionSet) -> dict[str, Any]:
    """Fingerprint of images and their annotated objects."""
    objects = ([(a.label, *a.box) for a in image.annotations] for image in images.images)
    return _fingerprint(data, [str(image.file) for image in images.images], objects, images.classes, True)


def of_maps(data: str, images: MappedSet) -> dict[str, Any]:
    """Fingerprint of images and their maps, each of which counts by its size in bytes, or by the outlines in it."""
    maps: Iterable[Any] = _sizes([str(image.map) for image in images.images])
    if isinstance(images, SegmentationSet) and (segments := images.segments) is not None:
        maps = zip(maps, (sorted(segments[image.map].items()) for image in images.images), strict=True)
    if isinstance(images, SegmentationSet) and (drawn := images.objects) is not None:
        maps = ([(a.label, *a.box, a.area) for a in drawn[image.file].annotations] for image in images.images)
    return _fingerprint(data, [str(image.file) for image in images.images], maps, images.classes, True)


def of_part(data: str, part: Any) -> dict[str, Any]:
    """Fingerprint of images with their labels, objects or maps."""
    if isinstance(part, ImageSet):
        return of_samples(data, part)
    return of_annotated(data, part) if isinstance(part, DetectionSet) else of_maps(data, part)


def digest_of_files(data: str, files: Mapping[str, Sequence[str]], states: Mapping[str, Sequence[FileState]]) -> str:
    """A digest of the files of several parts: of their names from the data's folder on, their sizes and dates."""
    above = _above(data)
    rows = sorted(
        f"{name}\0{file.removeprefix(above)}\0{state.size}\0{state.changed}"
        for name, own in files.items()
        for file, state in zip(own, states[name], strict=True)
    )
    return _digest(rows)


def states_of_files(files: Sequence[str]) -> list[FileState]:
    """Size and date of each file, also of those inside shards (`shards.members`); an error about one that cannot be
    looked at names it when it is read."""

    def state(file: str) -> FileState:
        try:
            found = os.stat(file)
            return FileState(found.st_size, found.st_mtime_ns)
        except (OSError, ValueError):
            place = find_member(file)
            return FileState(-1, -1) if place is None else FileState(place.size, place.changed)

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(state, files, chunksize=256))


def difference(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The difference between two fingerprints, in words; None if they are equal."""
    if all(then[key] == now[key] for key in then.keys() & now.keys()):  # those of before have no order
        return None
    if then["classes"] != now["classes"]:
        gone, new = (sorted(set(a) - set(b)) for a, b in itertools.permutations((then["classes"], now["classes"])))
        return f"classes that were there: {first_names(gone) or 'none'}; that are new: {first_names(new) or 'none'}"
    if then["images"] != now["images"]:
        return f"{then['images']} training images, now {now['images']}"
    if then["digest"] != now["digest"]:
        return "names, sizes or labels of its images are others"
    return "its images are in another order, by which those of a batch are drawn"


def what_changed(state: dict[str, Any], now: dict[str, Any], *, data: str, begun: str, steps: int) -> str | None:
    """The difference between training data and those of a checkpoint, in words; None if they are the same.

    Older checkpoints have no fingerprint: then `data` must be the place `begun`, and the number of `steps` in an epoch
    must fit the steps that were made.
    """
    if "data" in state:
        return difference(state["data"], now)
    if Path(data).resolve() != Path(begun).resolve():
        return f"it was {begun}"
    if not 0 <= state["step"] - state["epoch"] * steps <= steps:
        return "the number of its images is another"
    return None


def _fingerprint(
    data: str, files: Sequence[str], labels: Iterable[Any], classes: Sequence[str], on_disc: bool
) -> dict[str, Any]:
    above = _above(data)
    sizes = _sizes(files) if on_disc else [0] * len(files)
    rows = [
        f"{file.removeprefix(above)}\0{size}\0{label}" for file, size, label in zip(files, sizes, labels, strict=True)
    ]
    digests = {"digest": _digest(sorted(rows)), "order": _digest(rows)}
    return {"images": len(files), "classes": list(classes), **digests}


def _above(data: str) -> str:
    """Path of the folder that data lie in, with a separator at its end."""
    root = Path(fetched(data))
    return f"{root if root.is_dir() else root.parent}{os.sep}"


def _digest(rows: Iterable[str]) -> str:
    digest = blake2b(digest_size=16)
    for row in rows:
        digest.update(row.encode("utf-8", errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def _sizes(files: Sequence[str]) -> list[int]:
    return [state.size for state in states_of_files(files)]
