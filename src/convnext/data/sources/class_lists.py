"""Lists of the classes in label maps: names by number, and the colours that stand for them.

A line is a name (`sky`), or a name with its colour, in one of the forms that programs write: `128 128 128 sky`,
`sky 128 128 128`, `sky,128,128,128`, `sky:128,128,128::` (CVAT), `#808080 sky`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from convnext.data.sources.coco_fields import twice
from convnext.data.sources.finder import child
from convnext.data.sources.records import class_name, read_class_names
from convnext.errors import InputError

_FILES = (
    "classes.txt",
    "class_dict.csv",
    "classes.csv",
    "label_colors.txt",
    "labelmap.txt",
    "labels.txt",
    "colors.txt",
)
_NUMBERS = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
_FORMS = (
    re.compile(rf"^{_NUMBERS}[\s,;:]+(?P<name>\S.*?)$"),
    re.compile(rf"^(?P<name>.*?\S)[\s,;:]+{_NUMBERS}[\s,;:]*$"),
    re.compile(r"^#(?P<hex>[0-9a-fA-F]{6})[\s,;:]+(?P<name>\S.*?)$"),
    re.compile(r"^(?P<name>.*?\S)[\s,;:]+#(?P<hex>[0-9a-fA-F]{6})$"),
)
_HEADER = re.compile(r"(?i)^\W*(names?|class(es)?|label|r|red|# ?label)\b.*\b(b|blue|color_rgb)\b")
_NO_CLASS = ("void", "ignore", "ignored", "unlabelled", "unlabeled", "_ignore_", "__ignore__")
"""Names by which lists of colours call what is no class."""


class ClassList(NamedTuple):
    """Names of the classes, and the number of each colour, by red·65,536 + green·256 + blue; None where the list has no
    colours. -1 is the number of what is no class."""

    names: tuple[str, ...]
    colours: dict[int, int] | None = None


def find_class_list(folder: Path) -> ClassList | None:
    """The list in a folder, or ADE20K's objectInfo150.txt; None if there is none. `InputError` for an empty one."""
    path = child(folder, _FILES)
    if path is not None and path.is_file():
        found = parse_class_list(read_class_names(path), path)
    elif (folder / "objectInfo150.txt").is_file():
        rows = read_class_names(folder / "objectInfo150.txt")[1:]  # Idx, Ratio, Train, Val, Name, by tabs
        found = ClassList(tuple(row.split("\t")[-1].split(",")[0].strip() for row in rows))
    else:
        return None
    if not found.names:
        raise InputError(f"{folder}: its list of classes is empty")
    return found


def parse_class_list(lines: tuple[str, ...], path: Path) -> ClassList:
    """Parse the lines of a class list; several colours of one name are one class.

    `InputError` where only some lines have a colour, two classes have one, or two lines without colours one name.
    """
    read = [(line, _coloured(line)) for line in lines if not _HEADER.match(line)]
    coloured = [each for _, each in read if each is not None]
    if len(coloured) < len(read) / 2:
        if (name := twice(lines)) is not None:
            raise InputError(f"{path}: class name {name} appears twice")
        return ClassList(lines)
    if bad := [line for line, each in read if each is None]:
        raise InputError(f"{path}: '{bad[0]}' has no colour from 0 to 255, as other lines have")
    names = tuple(dict.fromkeys(name for name, _ in coloured if name.lower() not in _NO_CLASS))
    colours: dict[int, int] = {}
    for name, colour in coloured:
        number = names.index(name) if name in names else -1
        if colours.setdefault(colour, number) != number:
            raise InputError(f"{path}: the colour #{colour:06x} stands for two classes")
    return ClassList(names, colours)


def _coloured(line: str) -> tuple[str, int] | None:
    for form in _FORMS:
        if found := form.match(line):
            name = class_name(found["name"].strip("\"' :"))
            if "hex" in found.re.groupindex:
                return name, int(found["hex"], 16)
            red, green, blue = (int(value) for value in found.groups() if value is not None and value != found["name"])
            return (name, red << 16 | green << 8 | blue) if max(red, green, blue) < 256 else None
    return None
