"""Images with the boxes and outlines of objects: what every format of detection is read into.

What can be taken is taken: an object with a broken outline keeps its box, one without a box gets its outline's. What
was assumed is noted, and what cannot be used is left out, each kind with its count and its first examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from convnext.data.images.decode import MAX_PIXELS, WHITE, decode_image, read_bytes, upright_size_of_file
from convnext.data.problems import NOT_READ, TOO_LARGE, Problems
from convnext.data.sources.coco_fields import (
    LARGEST_NUMBER,
    Id,
    area_of_outline,
    box_of_outline,
    clip_box,
    reaches_beyond,
    read_box,
    read_outline,
    read_side,
)
from convnext.data.sources.file_set import ImageFileSet
from convnext.data.sources.records import class_name
from convnext.errors import ImageError, InputError
from convnext.printing import first_names


@dataclass(frozen=True)
class Annotation:
    """One object, or a crowd of them.

    `label` is a position among the classes, `box` x0, y0, x1, y1 in pixels, inside the image; `outline` polygons or a
    run-length code as in COCO's JSON, None where there is none; `area` in pixels, as the data say it, else the
    outline's or the box's.
    """

    label: int
    box: tuple[float, float, float, float]
    outline: Any
    crowd: bool
    area: float


@dataclass(frozen=True)
class AnnotatedImage:
    """One image; `file` is where it lies, `key` its name relative to the data.

    `left_out` is how many annotations of it could not be used: an image of no annotations has no objects only if it
    is 0.
    """

    id: Id
    file: Path
    key: str
    width: int
    height: int
    annotations: tuple[Annotation, ...]
    left_out: int = 0


def decode_annotated(
    file: str | Path, width: int, height: int, mode: str | None = "RGB", *, white: int = WHITE
) -> Image.Image:
    """Decode an image whose annotations are for `width` by `height` pixels, into a mode or its own. `ImageError` if it
    cannot be read, or has another size.

    An image that EXIF lays on its side is taken as it is stored where its annotations are for that.
    """
    content, wanted = read_bytes(file), (width, height)
    image = decode_image(content, mode, name=str(file), white=white)
    if image.size != wanted and image.size == wanted[::-1]:
        stored = decode_image(content, mode, name=str(file), white=white, upright=False)
        image = stored if stored.size == wanted else image
    if image.size != wanted:
        raise ImageError(f"{file}: {image.width}×{image.height} pixels, where its annotations are for {width}×{height}")
    return image


@dataclass(frozen=True)
class DetectionSet(ImageFileSet):
    """Annotated images of one part; `category_ids` are those of COCO's JSON, by class, or numbers from 1."""

    classes: tuple[str, ...]
    category_ids: tuple[Id, ...]
    images: tuple[AnnotatedImage, ...]


class FoundImage(NamedTuple):
    """One image as the reader of a format finds it.

    Fields:
        file: where it lies.
        key: its name relative to the data.
        size: width and height in pixels, if the format says them; else they are taken from the file's header.
        rows: its objects as COCO's JSON has them ("bbox" and "segmentation" in pixels, "iscrowd"), with the name of the
            class as "category".
    """

    file: Path
    key: str
    size: tuple[Any, Any] | None
    rows: list[dict[str, Any]]


def annotated_set(images: Iterable[FoundImage], faults: Problems, classes: Sequence[str] | None = None) -> DetectionSet:
    """The images of one part, in their order; without `classes`, those of its objects in the order of their names.

    Images whose size is not known and cannot be read are left out and added to `faults`.
    """
    found = list(images)
    if classes is None:
        classes = sorted({class_name(row["category"]) for image in found for row in image.rows})
    labels = {name: label for label, name in enumerate(dict.fromkeys(map(class_name, classes)))}
    kept = []
    for number, image in enumerate(found, start=1):
        size = _size(image, faults)
        if size is None:
            continue
        annotations, left_out = [], 0
        for at, row in enumerate(image.rows, start=1):
            name = f"{image.key}, object {at}"
            label = labels.get(class_name(row["category"]))
            if label is None:
                faults.add("objects of classes that are not listed", f"{name}: {row['category']}")
                read: Annotation | str = ""
            else:
                read = read_annotation(row, name, label, *size, faults)
            if isinstance(read, Annotation):
                annotations.append(read)
            else:
                left_out += 1
                if read:
                    faults.add(read, name)
        kept.append(AnnotatedImage(number, image.file, image.key, *size, tuple(annotations), left_out))
    return DetectionSet(tuple(labels), tuple(range(1, len(labels) + 1)), tuple(kept))


def _size(image: FoundImage, faults: Problems) -> tuple[int, int] | None:
    width, height = map(read_side, image.size or (None, None))
    if width is None or height is None:
        try:
            width, height = upright_size_of_file(image.file)
        except ImageError as error:
            faults.add(NOT_READ, str(error))
            return None
    if width * height > MAX_PIXELS:  # outlines are drawn at this size, whatever the file's
        faults.add(TOO_LARGE, f"{image.key}: {width}×{height}")
        return None
    return width, height


def read_annotation(
    row: Mapping[str, Any], name: str, label: int, width: int, height: int, faults: Problems
) -> Annotation | str:
    """The annotation in a row of COCO's JSON, or why it cannot be used; `name` is what `faults` call it."""
    outline = read_outline(row.get("segmentation"), width, height)
    if outline.malformed:
        faults.note("malformed outlines, whose objects keep their boxes", name)
    if outline.scraps:
        faults.note("outlines with parts of fewer than three points, which are left out", name)
    box = read_box(row.get("bbox"))
    if box is not None and 0 < box[2] <= 1 and 0 < box[3] <= 1:
        faults.note("boxes under a pixel (are they parts of the image, 0 to 1?)", name)
    inside = clip_box(box, width, height) if box is not None else None
    if box is not None and inside is not None and reaches_beyond(box, width, height):
        faults.note("boxes that reach beyond their image (are they x0, y0, x1, y1?)", name)
    if inside is None and outline.usable is not None:
        around = box_of_outline(outline.usable, width, height)
        inside = clip_box(around, width, height) if around is not None else None
        if inside is not None and "bbox" in row:
            faults.note("boxes taken from their outlines", name)
    if inside is None:
        if box is None:
            return "boxes that are not four numbers" if "bbox" in row else "outlines that are none"
        return "boxes of no area" if box[2] <= 0 or box[3] <= 0 else "boxes outside their image"
    area = row.get("area")
    if isinstance(area, bool) or not isinstance(area, int | float) or not 0 <= area < LARGEST_NUMBER**2:
        area = (inside[2] - inside[0]) * (inside[3] - inside[1]) if box is None else box[2] * box[3]
        if outline.usable is not None:  # as COCO's JSON says it: the object's, by which it is small or large
            area = min(area, area_of_outline(outline.usable, width, height))
    return Annotation(label, inside, outline.usable, row.get("iscrowd") in (1, True), float(area))


def with_classes(
    data: DetectionSet, classes: Sequence[str], where: str, faults: Problems | None = None
) -> DetectionSet:
    """A set with its classes found by name among others.

    Objects of other classes are left out and added to `faults`; without those they are refused by `InputError`, and so
    is a set of which no class is among them. Classes that it lacks get ids that none of its categories has.
    """
    if tuple(classes) == data.classes:
        return data
    place = {class_name(name): label for label, name in enumerate(classes)}
    new = [place.get(class_name(name)) for name in data.classes]
    counts = Counter(a.label for image in data.images for a in image.annotations)
    other = [name for label, name in enumerate(data.classes) if new[label] is None and counts[label]]
    if other and (faults is None or not any(label is not None for label in new)):
        raise InputError(f"{where}: objects of classes that are not among the others': {first_names(other)}")
    id_of = {label: id for label, id in zip(new, data.category_ids, strict=True) if label is not None}
    free = 1 + max((id for id in data.category_ids if isinstance(id, int)), default=0)
    ids = tuple(id_of.get(label, free + label) for label in range(len(classes)))
    images = []
    for image in data.images:
        kept = tuple(replace(a, label=label) for a in image.annotations if (label := new[a.label]) is not None)
        images.append(replace(image, annotations=kept, left_out=image.left_out + len(image.annotations) - len(kept)))
    if faults is not None:
        for label, name in enumerate(data.classes):
            if new[label] is None and counts[label]:
                faults.add("classes that the model has not, with all their objects", f"{name}: {counts[label]} objects")
        for label, name in enumerate(classes):
            if label not in id_of:
                faults.note("classes of the model that the data do not have", name)
    return DetectionSet(tuple(classes), ids, tuple(images))


def joined(sets: Sequence[DetectionSet], where: str) -> DetectionSet:
    """Several sets as one, with the classes of all. `InputError` for an image that is in two of them."""
    if len(sets) == 1:
        return sets[0]
    classes = tuple(dict.fromkeys(name for each in sets for name in each.classes))
    images = tuple(image for each in sets for image in with_classes(each, classes, where).images)
    (file, count), *_ = Counter(image.file for image in images).most_common(1)
    if count > 1:
        raise InputError(f"{where}: {file} is in {count} files of annotations; give one of them as DATA")
    ids = tuple(range(1, len(classes) + 1))
    return DetectionSet(classes, ids, images)
