"""Label maps as annotation programs import them: read back, they are the same pixels."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from vacuous import nonempty

from convnext.data.sources.label_maps import LabelRules
from convnext.data.sources.segmentation import read_label_maps
from convnext.errors import InputError
from convnext.reports.label_maps import MAP_FORMS, LabelMapWriter, pieces

CLASSES = ["background", "sky", "box"]


def label_maps() -> dict[str, np.ndarray]:
    """A frame of class 2 with a hole, in which a smaller piece of class 1 lies; and pixels that touch by a corner."""
    first = np.zeros((24, 32), dtype=np.uint16)
    first[2:20, 3:25] = 2
    first[6:16, 8:20] = 0
    first[9:13, 10:16] = 1
    second = np.zeros((20, 16), dtype=np.uint16)
    second[1:5, 1:5] = second[5:9, 5:9] = 1
    second[12:, :] = 2
    return {"a b.png": first, "sub/ü.jpg": second}


@pytest.fixture
def images(tmp_path: Path) -> dict[str, np.ndarray]:
    found = {}
    for name, labels in label_maps().items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", labels.shape[::-1]).save(path)
        found[str(path)] = labels
    return found


def written(form: str, out: Path, images: dict[str, np.ndarray]) -> None:
    writer = LabelMapWriter(form, out, CLASSES, list(images))
    for path, labels in images.items():
        writer.add(path, labels)
    writer.finish()
    for path in images:
        target = out / ("JPEGImages" if form == "voc" else "images") / Path(path).relative_to(out.parent / "in")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)


@pytest.mark.parametrize("form", MAP_FORMS)
def test_what_is_written_is_read(form: str, images: dict[str, np.ndarray], tmp_path: Path) -> None:
    written(form, tmp_path / "out", images)
    found = read_label_maps(tmp_path / "out", LabelRules())
    assert not found.faults.lines()
    data = found.parts[""]
    assert len(data.images) == len(images) == 2
    for number, labels in enumerate(images.values()):
        read = np.array([CLASSES.index(name) for name in data.classes])[data.open(number)[1]]
        different = read != labels
        if form in ("yolo", "labelme"):  # whose polygons have no holes, and lose corners
            if number == 0:
                different[6:16, 8:20] = False
            assert different.sum() <= 16
        else:
            assert not different.any()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_pycocotools_reads_the_same_pixels(images: dict[str, np.ndarray], tmp_path: Path) -> None:
    written("coco", tmp_path / "out", images)
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert sorted(row["file_name"] for row in coco.imgs.values()) == ["a b.png", "sub/ü.jpg"]
    ours = {Path(path).name: labels for path, labels in images.items()}
    seen = 0
    for row in coco.imgs.values():
        labels = ours[Path(row["file_name"]).name]
        drawn = np.zeros_like(labels)
        for each in nonempty(coco.loadAnns(coco.getAnnIds(row["id"]))):
            mask = coco.annToMask(each).astype(bool)
            assert each["area"] == mask.sum()
            drawn[mask] = CLASSES.index(coco.cats[each["category_id"]]["name"])
            seen += 1
        assert np.array_equal(drawn, labels)
    assert seen == 5


def test_pieces_are_connected_by_edges() -> None:
    rows = pieces(label_maps()["sub/ü.jpg"], CLASSES)
    assert [(row["category"], row["bbox"], row["area"]) for row in rows] == [
        ("sky", [1, 1, 4, 4], 16),
        ("sky", [5, 5, 4, 4], 16),
        ("box", [0, 12, 16, 8], 128),
    ]
    assert pieces(np.zeros((3, 3), np.uint16), CLASSES) == []


def test_colours_that_cvat_reads(images: dict[str, np.ndarray], tmp_path: Path) -> None:
    written("voc", tmp_path / "out", images)
    lines = (tmp_path / "out" / "labelmap.txt").read_text().splitlines()
    assert lines[1] == "background:0,0,0::"
    names = {tuple(map(int, line.split(":")[1].split(","))): line.split(":")[0] for line in lines[1:]}
    pixels = np.asarray(Image.open(tmp_path / "out" / "SegmentationClass" / "a b.png").convert("RGB"))
    assert [names[tuple(pixels[y, x].tolist())] for y, x in ((0, 0), (3, 4), (10, 12))] == ["background", "box", "sky"]
    assert (tmp_path / "out" / "ImageSets" / "Segmentation" / "default.txt").read_text() == "a b\nsub/ü\n"


def test_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of a segmenter's"):
        LabelMapWriter("parquet", tmp_path, CLASSES, [])


def test_a_form_says_nothing_of_scores(images: dict[str, np.ndarray], tmp_path: Path) -> None:
    written("coco", tmp_path / "out", images)
    rows = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert rows
    assert not [row for row in rows if "score" in row]
