"""Every format of images with boxes and outlines of objects, recognised by what lies in the data."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from convnext.data.problems import Problems, log_left_out
from convnext.data.shards.objects import find_object_shards, read_object_shards
from convnext.data.shards.read import is_packed_here, local_index, refuse_address, refuse_other_shards
from convnext.data.sources.annotated import AnnotatedImage, DetectionSet, with_classes
from convnext.data.sources.coco import find_coco_parts, read_coco_part
from convnext.data.sources.cvat import find_cvat_parts, read_cvat
from convnext.data.sources.labelme import find_labelme_parts, read_labelme
from convnext.data.sources.open_images import find_open_images_parts, read_open_images
from convnext.data.sources.voc import find_voc_parts, read_voc
from convnext.data.sources.yolo import find_yolo_parts, read_yolo
from convnext.errors import InputError, nearest


@dataclass(frozen=True)
class DetectionFormat:
    """One form of data.

    Args:
        find: parts of a folder or file by name ("train", "val", "test", or "" alone where nothing says what is held
            out), as `read` takes them; none for data of another form.
        read: images of a part, with its own classes.
        lists_classes: whether data of this form list their classes. Where they do not, classes are those of all parts.
    """

    find: Callable[[Path], dict[str, Any]]
    read: Callable[[Any, Problems], DetectionSet]
    lists_classes: bool = False


SHARDS = "shards"
"""Name of the form that `convnext pack` writes."""

DETECTION_FORMATS: dict[str, DetectionFormat] = {
    "coco": DetectionFormat(find_coco_parts, read_coco_part, lists_classes=True),
    "yolo": DetectionFormat(find_yolo_parts, read_yolo, lists_classes=True),
    "voc": DetectionFormat(find_voc_parts, read_voc),
    "labelme": DetectionFormat(find_labelme_parts, read_labelme),
    "cvat": DetectionFormat(find_cvat_parts, read_cvat),
    "open_images": DetectionFormat(find_open_images_parts, read_open_images),
    SHARDS: DetectionFormat(find_object_shards, read_object_shards, lists_classes=True),
}


class FoundFormat(NamedTuple):
    """A form of data, and the parts that data of it have."""

    name: str
    parts: dict[str, Any]


class DetectionParts(NamedTuple):
    """The parts of a data set by name ("train", "val", "test", or "" alone where it does not say what is held out), and
    what was found wrong in reading them."""

    parts: dict[str, DetectionSet]
    faults: Problems


def find_detection(data: str | Path, form: str | None = None) -> FoundFormat:
    """The form of some data and its parts. `InputError` for data of no form that is read, or of several."""
    path = Path(data)
    refuse_address(data)
    if not path.exists():
        raise InputError(f"{data}: no such folder or file")
    if form in (None, SHARDS) and is_packed_here(path):
        return find_packed_objects(data, path)
    if form is not None:
        if form not in DETECTION_FORMATS:
            raise InputError(f"no format '{form}' of detection; {nearest(form, list(DETECTION_FORMATS))}")
        parts = DETECTION_FORMATS[form].find(path)
        if not parts:
            raise InputError(f"{data}: no annotations found in the form of {form}")
        return FoundFormat(form, parts)
    found = [FoundFormat(name, parts) for name, each in DETECTION_FORMATS.items() if (parts := each.find(path))]
    if not found:
        raise InputError(
            f"{data}: no annotations found in any of the forms {', '.join(DETECTION_FORMATS)}: such as train.json "
            "beside train/, data.yaml, Annotations/*.xml, or a JSON file an image"
        )
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise InputError(f"{data}: annotations in several forms, {names}: --format {found[0].name} takes one of them")
    return found[0]


def find_packed_objects(data: str | Path, folder: Path, wanted: str = "objects") -> FoundFormat:
    """The parts of shards of images with objects. `InputError` for others, which do not hold what is `wanted`."""
    parts = find_object_shards(folder)
    if not parts:
        refuse_other_shards(data, wanted, local_index(folder))
    return FoundFormat(SHARDS, parts)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Inside, Python does not look for cycles: among millions of new objects that takes longer than to make them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_annotated(
    data: str | Path,
    *,
    only: Collection[str] | None = None,
    classes: Sequence[str] | None = None,
    form: str | None = None,
) -> DetectionParts:
    """The parts of some data, or `only` some of them.

    Classes are matched by name, to those of a model, `classes`, or else to those of the part read first, which is
    train; where a form lists none, they are those of all parts. Objects of classes that the model has not are left out.
    `InputError` for a part that cannot be read, has an object of another class, or in which no object can be used.
    """
    found, faults = find_detection(data, form), Problems()
    reader = DETECTION_FORMATS[found.name]
    parts = {}
    with _no_collection():
        for part, place in found.parts.items():
            if only is None or part in only:
                parts[part] = reader.read(place, faults)
    first = next(iter(parts.values()), None)
    if classes is None and first is not None:
        if not any(image.annotations for image in first.images):
            raise InputError(f"{data}: no usable annotation; {'; '.join(faults.lines()) or 'there is none'}")
        every = {name for part in parts.values() for name in part.classes}
        known = first.classes if reader.lists_classes else tuple(sorted(every))
        matched = {name: with_classes(part, known, f"{data} ({name})") for name, part in parts.items()}
    else:
        matched = {name: with_classes(part, classes or (), f"{data}", faults) for name, part in parts.items()}
    return DetectionParts(matched, faults)


def annotated_images(file: Path) -> list[AnnotatedImage]:
    """The images that a file of annotations lists, of all parts; what is left out is said in the log."""
    parts, faults = read_annotated(file)
    log_left_out(file, faults)
    return [image for part in parts.values() for image in part.images]
