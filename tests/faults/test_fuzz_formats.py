"""Damaged and made-up annotation files of every form: each is read, or is an `InputError`; nothing else.

50 examples of each; `make fuzz` takes 1,000.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring, tostring

import pyarrow
import pytest
from annotating import BOXES, Parts, as_cvat, as_labelme, as_yolo, make_truth
from fuzzing import changed, damaged, damages, ends_well, fuzzed, odd
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from convnext.data.image_set import read_split
from convnext.data.sources.class_lists import parse_class_list
from convnext.data.sources.detection import read_annotated

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # one of long made-up names

FORMS: dict[str, Callable[[Path, Parts], None]] = {
    **BOXES,
    "yolo polygons": partial(as_yolo, polygons=True),
    "labelme polygons": partial(as_labelme, polygons=True),
    "cvat polygons": partial(as_cvat, polygons=True),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set in every form, a folder each."""
    root = tmp_path_factory.mktemp("forms")
    truth = make_truth(root / "native", train=4, val=3)
    for form, write in FORMS.items():
        write(root / form, truth)
    return root


@st.composite
def changed_xml(draw: st.DrawFn, content: bytes) -> bytes:
    """XML of which up to three elements have other texts, names or attributes, are missing or there twice."""
    root = fromstring(content)
    text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
    value = text | st.sampled_from(["", "nan", "1e999", "-1", "0", "9" * 400, "1,2;3", "../x", "true"])
    for _ in range(draw(st.integers(1, 3))):
        above = {inner: outer for outer in root.iter() for inner in outer}
        element: Element = draw(st.sampled_from(sorted(above, key=lambda each: (each.tag, str(each.text))) or [root]))
        match draw(st.integers(0, 4)):
            case 0:
                element.text = draw(value)
            case 1 if element.attrib:
                element.attrib[draw(st.sampled_from(sorted(element.attrib)))] = draw(value)
            case 2 if element in above:
                above[element].remove(element)
            case 3 if element in above:
                above[element].append(element)
            case _:
                element.tag = draw(st.sampled_from(sorted({each.tag for each in root.iter()})))
    return tostring(root)


@pytest.mark.parametrize("form", FORMS)
@fuzzed
@given(data=st.data())
def test_annotations(form: str, written: Path, data: st.DataObject) -> None:
    suffixes = (".json", ".yaml", ".txt", ".xml", ".csv")
    file = data.draw(st.sampled_from(sorted(p for p in (written / form).rglob("*") if p.suffix in suffixes)))
    original = file.read_bytes()
    if file.stat().st_nlink > 1:
        os.unlink(file)
    try:
        how = data.draw(st.integers(0, 3))
        if how and file.suffix == ".json":
            file.write_text(json.dumps(data.draw(changed(json.loads(original)))))
        elif how and file.suffix == ".xml":
            file.write_bytes(data.draw(changed_xml(original)))
        elif how and file.suffix in (".txt", ".csv", ".yaml"):
            words = original.split(b" " if file.suffix == ".txt" else b",")
            at = data.draw(st.integers(0, len(words) - 1))
            words[at] = str(data.draw(odd)).encode("utf-8", "surrogatepass")
            file.write_bytes((b" " if file.suffix == ".txt" else b",").join(words))
        else:
            file.write_bytes(damaged(original, data.draw(damages)))
        ends_well(lambda: read_annotated(written / form))
        ends_well(lambda: read_annotated(file))
    finally:
        file.write_bytes(original)


@pytest.mark.parametrize("form", FORMS)
def test_what_will_be_damaged_is_read(form: str, written: Path) -> None:
    parts = read_annotated(written / form).parts
    assert [sum(len(image.annotations) for image in data.images) for data in parts.values()] == [4, 2]


@fuzzed
@given(
    lines=st.lists(st.text(max_size=20) | st.sampled_from(["1 2 3 a", "a,1,2,3", "#010203 b", "c:9,9,9::"]), max_size=6)
)
def test_lists_of_classes(lines: list[str], written: Path) -> None:
    ends_well(lambda: parse_class_list(tuple(lines), written))


@fuzzed
@given(data=st.data())
def test_tables_that_hold_images(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "t.parquet"
    cells = [{"bytes": b"1", "path": "a"}, None, {"bytes": None, "path": None}]
    table = pyarrow.table({"image": pyarrow.array(cells), "label": ["x", "y", "x"]})
    parquet.write_table(table, path)
    path.write_bytes(damaged(path.read_bytes(), data.draw(damages)))
    ends_well(lambda: read_split(path, "all"))
