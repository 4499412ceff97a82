"""Every form of images with a class for each pixel, recognised by what lies in the data: label maps of numbers or
colours (`map_layouts`, `class_lists`), panoptic maps, or outlines of objects (`detection`), which are drawn as label
maps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.problems import Problems
from convnext.data.shards.maps import find_map_shards, read_map_shards
from convnext.data.shards.read import is_packed_here, refuse_address
from convnext.data.sources.annotated import DetectionSet
from convnext.data.sources.class_lists import ClassList, find_class_list
from convnext.data.sources.detection import (
    DETECTION_FORMATS,
    SHARDS,
    find_detection,
    find_packed_objects,
    read_annotated,
)
from convnext.data.sources.known_classes import CAMVID_CLASSES, CITYSCAPES_CLASSES, CITYSCAPES_NUMBERS, VOC_CLASSES
from convnext.data.sources.label_maps import IGNORED, LOWEST, LabelRules, SegmentationSet, class_table, drawn_table
from convnext.data.sources.map_layouts import MapPart, find_map_layout, find_map_pairs, layout_name
from convnext.data.sources.maps import MappedImage
from convnext.data.sources.panoptic import read_panoptic_parts
from convnext.data.sources.panoptic_files import find_panoptic_parts
from convnext.data.sources.voc import voc_root
from convnext.errors import InputError, nearest

MAPS, PANOPTIC, PACKED_MAPS = "maps", "panoptic", "shards of label maps"
"""Names of the forms that are label maps."""
SEGMENTATION_FORMS = (MAPS, PANOPTIC, *DETECTION_FORMATS)


class SegmentationParts(NamedTuple):
    """The parts of a data set by name ("train", "val", "test", or "" alone where it does not say what is held out), and
    what was found wrong in listing them."""

    parts: dict[str, SegmentationSet]
    faults: Problems


def find_label_parts(data: str | Path, form: str | None) -> tuple[str, dict[str, Any]]:
    """The form of some data and its parts: panoptic or other label maps where there are any, else outlines of objects.

    `InputError` for data of no form that is read.
    """
    folder = Path(data)
    refuse_address(data)
    if not folder.exists():
        raise InputError(f"{data}: no such folder or file")
    if form in (None, SHARDS) and is_packed_here(folder):
        packed = find_map_shards(folder)
        return (PACKED_MAPS, packed) if packed else find_packed_objects(data, folder, "maps")
    if form is not None and form not in SEGMENTATION_FORMS:
        raise InputError(f"no format '{form}' of segmentation; {nearest(form, list(SEGMENTATION_FORMS))}")
    if form in (None, PANOPTIC) and (panoptic := find_panoptic_parts(folder)):
        return PANOPTIC, panoptic
    if form == PANOPTIC:
        raise InputError(f"{data}: no JSON file of panoptic COCO in it or in annotations/")
    found = find_map_layout(folder) if folder.is_dir() and form in (None, MAPS) else {}
    if found:
        return MAPS, found
    if form != MAPS and (form is not None or _has_objects(folder)):
        return find_detection(data, form)
    for name, kind in (("images", "images lie in images/"), ("annotations", "their label maps in annotations/")):
        if not (folder / name).is_dir():
            raise InputError(
                f"{data}: no folder '{name}' in it; {kind}, or as docs/data.md says; nor are there outlines"
            )
    raise InputError(f"{data}: no image in images/ has a label map of its name in annotations/")


def _has_objects(data: Path) -> bool:
    return any(each.find(data) for each in DETECTION_FORMATS.values())


def read_label_maps(
    data: str | Path, rules: LabelRules, *, only: Collection[str] | None = None, form: str | None = None
) -> SegmentationParts:
    """The parts of some data, or `only` some of them; images without a map are left out.

    `InputError` for data in no known layout, without classes, or with a part of which nothing can be used.
    """
    name, found = find_label_parts(data, form)
    wanted = [part for part in found if only is None or part in only]
    if name == PACKED_MAPS:
        return SegmentationParts(read_map_shards(Path(data), next(iter(found.values())), rules, wanted), Problems())
    if name == PANOPTIC:
        faults = Problems()
        return SegmentationParts(read_panoptic_parts({part: found[part] for part in wanted}, faults), faults)
    if name != MAPS:
        read = read_annotated(data, only=wanted, form=name)
        drawn = {part: drawn_set(each, rules, read.faults) for part, each in read.parts.items()}
        if not any(each.objects[i.file].annotations for each in drawn.values() if each.objects for i in each.images):
            raise InputError(f"{data}: there are no outlines, but boxes alone, which are no label maps")
        return SegmentationParts(drawn, read.faults)
    layout = layout_name(next(iter(found.values())))
    listed, rules = listed_classes(Path(data), layout, rules, found)
    faults, parts = Problems(), {}
    table, colours = class_table(listed.names, rules), listed.colours
    if colours is not None:
        table[-1 - LOWEST] = IGNORED
        if rules.reduce_zero_label and rules.label_map is None:  # which is said of numbers, and colours have names
            colours = {colour: number + (number >= 0) for colour, number in colours.items()}
    for part in wanted:
        images = find_map_pairs(found[part], faults)
        if not images:
            reason = "; ".join(faults.lines()) or "there are none"
            raise InputError(f"{found[part].images}: no image with a label map; {reason}")
        parts[part] = SegmentationSet(listed.names, table, tuple(images), colours)
    return SegmentationParts(parts, faults)


def own_list(folder: Path) -> ClassList | None:
    """Class list that lies in a data folder; None for a published set such as CamVid, which has none."""
    return next((each for at in (folder, voc_root(folder)) if (each := find_class_list(at)) is not None), None)


def listed_classes(
    folder: Path, layout: str, rules: LabelRules, found: dict[str, MapPart]
) -> tuple[ClassList, LabelRules]:
    """The list in the folder; else that of a published set, with what its numbers mean, unless `rules` say that: none
    of these counts its classes from 1, whatever a recipe or a model of other maps does."""
    if (listed := own_list(folder)) is not None:
        return listed, rules
    rules = replace(rules, reduce_zero_label=False)
    own = rules == LabelRules()
    if layout == "voc":
        return ClassList(VOC_CLASSES), rules
    if layout == "camvid":
        return ClassList(CAMVID_CLASSES), LabelRules(ignore_index=len(CAMVID_CLASSES)) if own else rules
    if layout == "cityscapes":
        names = tuple(CITYSCAPES_CLASSES.values())
        first = find_map_pairs(next(iter(found.values())), Problems())
        if own and first and not first[0].map.stem.endswith("TrainIds"):
            rules = LabelRules(label_map={str(n): CITYSCAPES_CLASSES.get(n) for n in CITYSCAPES_NUMBERS})
        return ClassList(names), rules
    raise InputError(f"{folder}: no classes.txt in it, which names the classes, one a line, from number 0 on")


def drawn_set(data: DetectionSet, rules: LabelRules, faults: Problems) -> SegmentationSet:
    """Annotated images whose outlines are drawn as label maps; pixels that none covers are of the class "background".

    An `ignore_index` of 0 ignores them instead. Images with an object without outline are left out and added to
    `faults`: it would be taught as background.
    """
    names, table = drawn_table(data.classes, rules)
    kept = []
    for image in data.images:
        if any(each.outline is None for each in image.annotations) or image.left_out:
            faults.add("images with an object without outline", str(image.file))
        else:
            kept.append(MappedImage(image.file, image.file, image.key))
    return SegmentationSet(names, table, tuple(kept), objects={image.file: image for image in data.images})
