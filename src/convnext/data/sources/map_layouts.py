"""Layouts of images and their label maps.

    images/train/a.jpg  masks/train/a.png       images|image|img|imgs|JPEGImages|leftImg8bit, and
                                                annotations|masks|labels|SegmentationClass|gtFine|...
    train/images/a.jpg  train/masks/a.png       the same inside the parts
    train/a.png         trainannot/a.png        also train_labels, train_masks
    a.jpg               a_mask.png              also _label, _L, _gt, _seg

The map of an image has the same path but for its suffix, and perhaps such an end. Pascal VOC's lists of parts, in
`ImageSets/Segmentation`, count.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from convnext.data.problems import Problems
from convnext.data.sources.finder import child, part_folders, settled_parts
from convnext.data.sources.image_files import find_images, say_unread
from convnext.data.sources.maps import MappedImage
from convnext.data.sources.panoptic_files import folders_of_panoptic_maps
from convnext.data.sources.voc import image_sets, voc_root
from convnext.data.splits import UNDIVIDED, part_of_name

log = logging.getLogger("convnext")

_IMAGES = ("images", "image", "img", "imgs", "jpegimages", "leftimg8bit", "701_stillsraw_full")
_MAPS = (
    "annotations", "masks", "labels", "segmentationclass", "gtfine", "mask", "label", "annots", "annotation", "gt",
    "labeledapproved_full", "segmentation", "segmentations",
)  # fmt: skip
_ENDS = (
    ("", ""),
    ("_leftImg8bit", "_gtFine_labelTrainIds"),
    ("_leftImg8bit", "_gtFine_labelIds"),
    *(("", end) for end in ("_mask", "_masks", "_label", "_labels", "_L", "_gt", "_seg", "_segmentation")),
    ("_sat", "_mask"),
)
"""Endings of the names of images and of their maps."""


class MapPart(NamedTuple):
    """One part: the folders of its images and maps, which may be one, and the names that it has of them, or all."""

    images: Path
    maps: Path
    names: frozenset[str] | None = None


def find_map_layout(data: Path) -> dict[str, MapPart]:
    """The parts of a folder by name; none where no image has a label map."""
    root = voc_root(data)
    if (images := child(root, _IMAGES)) is not None and (maps := _folder_of_maps(root)) is not None:
        if sets := image_sets(root, "segmentation"):
            return settled_parts({part: MapPart(images, maps, frozenset(names)) for part, names in sets.items()})
        own, theirs = part_folders(images), part_folders(maps)
        found = {part: MapPart(path, theirs[part]) for part, path in own.items() if part in theirs}
        return settled_parts(found) if found else {UNDIVIDED: MapPart(images, maps)}
    found = {}
    for part, path in part_folders(root).items():
        inside, maps = child(path, _IMAGES), _folder_of_maps(path)
        if inside is not None and maps is not None:
            found[part] = MapPart(inside, maps)
        else:
            ends = ("annot", "_annot", "_labels", "_masks", "_label", "_mask")
            if (beside := child(root, [f"{path.name.lower()}{end}" for end in ends])) is not None:
                found[part] = MapPart(path, beside)
    if found:
        return settled_parts(found)
    together = {part: MapPart(path, path) for part, path in (part_folders(root) or {UNDIVIDED: root}).items()}
    return settled_parts({part: each for part, each in together.items() if find_map_pairs(each, Problems())})


def without_label_maps(folder: Path, images: list[Path]) -> list[Path]:
    """The images of a folder that are no label maps of others of them; how many are is said in the log."""
    layout = (part.maps for part in find_map_layout(folder).values() if part.maps != part.images)
    maps = {str(path) + os.sep for path in (*layout, *folders_of_panoptic_maps(folder))}
    known = set(images)
    kept = [path for path in images if not str(path).startswith(tuple(maps))] if maps else images
    if not maps:
        ends = tuple(end for start, end in _ENDS if end and not start)
        kept = [path for path in images if not _is_map_beside(path, ends, known)]
    if len(kept) < len(images):
        log.info("%s: left out: %d label maps", folder, len(images) - len(kept))
    return kept


def _is_map_beside(path: Path, ends: tuple[str, ...], images: set[Path]) -> bool:
    if not path.stem.endswith(ends):
        return False
    stems = (path.stem.removesuffix(end) for end in ends if path.stem.endswith(end))
    return any(path.with_name(stem + suffix) in images for stem in stems for suffix in (path.suffix, ".jpg", ".png"))


def _folder_of_maps(folder: Path) -> Path | None:
    """The folder of maps in a folder: one with pictures in it."""
    there = (child(folder, (name,)) for name in _MAPS)
    return next((path for path in there if path is not None and path.is_dir() and find_images(path)), None)


def find_map_pairs(part: MapPart, faults: Problems) -> list[MappedImage]:
    """The images of a part that have a label map, sorted; others, and maps without an image, are added to `faults`."""
    unread = Counter[str]()
    found_images = find_images(part.images, unread)
    images = {_stem(path, part.images): path for path in found_images}
    maps = images if part.images == part.maps else {_stem(path, part.maps): path for path in find_images(part.maps)}
    counts = {ends: sum(_stem_of_map(stem, ends) in maps for stem in images) for ends in _ENDS}
    if part.images == part.maps:
        counts[_ENDS[0]] = 0
    ends = max(_ENDS, key=lambda each: counts[each])
    if not counts[ends]:
        return []
    pairs, kept, used = [], set[str](), set[str]()
    for stem, path in images.items():
        if part.names is not None and stem not in part.names:
            continue
        if ends[1] and (stem.endswith(ends[1]) or (ends[0] and not stem.endswith(ends[0]))) and images is maps:
            continue  # a map itself
        found = _stem_of_map(stem, ends)
        if found in maps:
            pairs.append(MappedImage(path, maps[found], path.relative_to(part.images).as_posix()))
            kept.add(stem)
            used.add(found)
        else:
            faults.add("images without a label map", str(path))
    if ends == _ENDS[0] and part.names is None:  # else other pictures lie among the maps
        for stem, path in maps.items():
            if stem not in used:
                faults.add("label maps without an image", str(path))
    for path in found_images:
        if (stem := _stem(path, part.images)) in kept and images[stem] != path:
            faults.add("images that have the name of another but for the suffix", str(path))
    say_unread(unread)
    return sorted(pairs, key=lambda pair: pair.file)


def _stem(path: Path, folder: Path) -> str:
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def _stem_of_map(stem: str, ends: tuple[str, str]) -> str:
    return stem.removesuffix(ends[0]) + ends[1] if stem.endswith(ends[0]) else "\0"


def layout_name(part: MapPart) -> str:
    """The published set whose folders these look like: "voc", "cityscapes", "camvid", or ""."""
    if part.maps.name.lower() == "segmentationclass":
        return "voc"
    if any(path.name.lower() == "gtfine" for path in (part.maps, part.maps.parent)):
        return "cityscapes"
    return "camvid" if part.maps.name.lower().endswith("annot") and part_of_name(part.images.name) else ""
