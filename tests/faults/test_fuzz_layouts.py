"""Damaged and made-up label maps, tables, crops and published files: each is read, or is an `InputError`; nothing else.

50 examples of each; `make fuzz` takes 1,000.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from annotating import as_panoptic, as_yolo, make_truth
from fuzzing import changed, damaged, damages, ends_well, fuzzed, odd
from hypothesis import given
from hypothesis import strategies as st
from making import make_scenes, make_video
from PIL import Image

from convnext.data.image_set import read_images, read_split
from convnext.data.problems import Problems
from convnext.data.sources.label_maps import LabelRules, examine_label_maps
from convnext.data.sources.segmentation import read_label_maps
from convnext.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # one of long made-up names


def read_maps(folder: Path) -> None:
    for data in read_label_maps(folder, LabelRules(9)).parts.values():
        examine_label_maps(data, Problems())


def with_damage(file: Path, data: st.DataObject, read: Callable[[], object]) -> None:
    """Reads while a file is damaged, or its JSON changed."""
    original = file.read_bytes()
    try:
        if file.suffix == ".json" and data.draw(st.booleans()):
            file.write_text(json.dumps(data.draw(changed(json.loads(original)))))
        else:
            file.write_bytes(damaged(original, data.draw(damages)))
        ends_well(read)
    finally:
        file.write_bytes(original)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of numbers, of colours and of panoptic COCO."""
    root = tmp_path_factory.mktemp("layouts")
    scenes = make_scenes(root / "maps", train=2, val=1)
    as_panoptic(root / "panoptic", scenes)
    coloured = make_scenes(root / "colours", train=2, val=1)
    (coloured / "classes.txt").write_text("0 0 0 sky\n1 1 1 ground\n2 2 2 box\n9 9 9 void\n")
    for path in (coloured / "annotations").rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    return root


@pytest.mark.parametrize("form", ["maps", "colours", "panoptic"])
@fuzzed
@given(data=st.data())
def test_label_maps(form: str, layouts: Path, data: st.DataObject) -> None:
    files = sorted(path for path in (layouts / form).rglob("*") if path.is_file())
    with_damage(data.draw(st.sampled_from(files)), data, lambda: read_maps(layouts / form))


@pytest.mark.parametrize("form", ["maps", "colours", "panoptic"])
def test_what_will_be_damaged_is_read(form: str, layouts: Path) -> None:
    parts = read_label_maps(layouts / form, LabelRules(9)).parts
    assert {name: len(part.images) for name, part in parts.items()} == {"train": 2, "val": 1}
    read_maps(layouts / form)


names = st.sampled_from(["a.png", "b/c.png", "..\\a.png", "", "\0", "a.png ", "/", "ü.png"]) | st.text(max_size=8)
cells = names | st.sampled_from(["cat", "1", "train", "val", "cat|dog", '"', "a,b"])


@fuzzed
@given(
    header=st.lists(st.sampled_from(["file_name", "Label", "split", "x", ""]), min_size=1, max_size=4),
    rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=4),
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from(["", "\ufeff"]),
    name=st.sampled_from(["metadata.csv", "train/metadata.csv", "t.csv", "t.tsv"]),
)
def test_tables_of_text(
    header: list[str], rows: list[list[str]], separator: str, end: str, mark: str, name: str, tmp_path_factory
) -> None:
    root = tmp_path_factory.getbasetemp() / "tables"
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = mark + end.join(separator.join(row) for row in [header, *rows])
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        ends_well(lambda: read_split(root if path.stem == "metadata" else path, "all"))
        ends_well(lambda: read_split(root if path.stem == "metadata" else path, "all", multi_label=True))
    finally:
        path.unlink()


@fuzzed
@given(rows=st.lists(st.dictionaries(st.sampled_from(["file_name", "label", "LABEL", "split"]), odd) | odd, max_size=4))
def test_lines_of_json(rows: list[object], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "t.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    ends_well(lambda: read_split(path, "all"))
    ends_well(lambda: read_split(path, "all", multi_label=True))


@fuzzed
@given(data=st.data())
def test_crops(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "crops"
    if not root.exists():
        as_yolo(root / "data", make_truth(root / "native", train=3, val=2))

    def read() -> None:
        crops = read_split(root / "data" / "data.yaml", "all")
        for number in range(len(crops)):
            try:
                crops.open(number, "RGB")
            except ImageError:
                continue

    files = sorted(path for path in (root / "data").rglob("*") if path.is_file())
    with_damage(data.draw(st.sampled_from(files)), data, read)


@fuzzed
@given(data=st.data())
def test_published_files_and_pages(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "published"
    if not root.exists():
        root.mkdir()
        for start in ("train", "t10k"):
            (root / f"{start}-images-idx3-ubyte").write_bytes(
                bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6))
            )
            (root / f"{start}-labels-idx1-ubyte").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 2, 0, 1)))
        (root / "pages").mkdir()
        pages = [Image.new("L", (9, 7), n) for n in range(3)]
        pages[0].save(root / "pages" / "a.tif", save_all=True, append_images=pages[1:])

    def read() -> None:
        read_split(root, "train")
        pages = read_images(root / "pages")
        for number in range(len(pages)):
            try:
                pages.open(number, "L")
            except ImageError:
                continue

    with_damage(data.draw(st.sampled_from(sorted(path for path in root.rglob("*") if path.is_file()))), data, read)


@fuzzed
@given(data=st.data())
@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_videos(suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / f"videos-{suffix}"
    if not root.exists():
        root.mkdir()
        make_video(root / f"a.{suffix}", 1)

    def read() -> None:
        frames = read_images(root, frame_rate=3.0)
        assert len(frames) < 10**4  # whatever the header says
        for number in (0, len(frames) - 1):
            try:
                frames.open(number, "L")
            except ImageError:
                continue

    with_damage(root / f"a.{suffix}", data, read)
