"""YOLO's data as people have them: their forms, and lines and files that make no sense."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from annotating import Parts, as_yolo, assert_same
from PIL import Image

from convnext.data.sources.detection import read_annotated
from convnext.errors import InputError


@pytest.mark.parametrize(
    "case", ["roboflow", "lists", "no yaml", "darknet", "upper case", "same val", "names list", "names alone"]
)
def test_forms(case: str, truth: Parts, tmp_path: Path) -> None:
    root = tmp_path / "data"
    as_yolo(root, truth, yaml=case != "no yaml")
    names = "[square, circle]"
    expected = truth
    if case == "roboflow":  # whose paths are wrong, from where the file lies
        for part, name in (("train", "train"), ("val", "valid")):
            (root / name).mkdir()
            for kind in ("images", "labels"):
                (root / kind / part).rename(root / name / kind)
        (root / "data.yaml").write_text(
            f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnames: {names}\nroboflow: {{}}"
        )
    elif case == "lists":
        for part in truth:
            files = [path.relative_to(root) for path in (root / "images" / part).iterdir()]
            (root / f"{part}.txt").write_text("".join(f"./{path}\n" for path in files))
        (root / "data.yaml").write_text(f"train: train.txt\nval: [val.txt]\nnames: {names}\n")
    elif case == "darknet":
        (root / "data.yaml").unlink()
        (root / "obj.names").write_text("square\ncircle\n")
        for part in truth:
            for path in (root / "images" / part).iterdir():
                path.rename(root / path.name)
            for path in (root / "labels" / part).iterdir():
                path.rename(root / path.name)
            (root / f"{part}.txt").write_text(
                "".join(f"data/obj/{image.key}\r\n" for image in truth[part].images)  # where they were
            )
        shutil.rmtree(root / "images")
    elif case == "upper case":
        for kind in ("images", "labels"):
            (root / kind / "train").rename(root / kind / "Train")
            (root / kind).rename(root / kind.upper())
        (root / "data.yaml").write_text(f"train: IMAGES/Train\nval: IMAGES/val\nnames: {names}\n")
    elif case == "same val":
        (root / "data.yaml").write_text(f"train: images/train\nval: images/train\nnames: {names}\n")
        expected = {"": truth["train"]}
    elif case == "names alone":  # as supervision writes it
        (root / "data.yaml").write_text(f"nc: 2\nnames: {names}\n")
    elif case == "names list":
        (root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: {names}\n")
    assert_same(read_annotated(root).parts, expected)
    if case not in ("no yaml", "darknet"):
        assert_same(read_annotated(root / "data.yaml").parts, expected)


def test_darknets_folder_without_lists(truth: Parts, tmp_path: Path) -> None:
    """As CVAT exports a task: `obj.names`, and images and labels in `obj_train_data`."""
    as_yolo(tmp_path / "data", {"": truth["train"]}, yaml=False)
    (tmp_path / "data" / "classes.txt").rename(tmp_path / "data" / "obj.names")
    place = tmp_path / "data" / "obj_train_data"
    place.mkdir()
    for kind in ("images", "labels"):
        for path in (tmp_path / "data" / kind).iterdir():
            path.rename(place / path.name)
        (tmp_path / "data" / kind).rmdir()
    assert_same(read_annotated(tmp_path / "data").parts, {"": truth["train"]})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "objects of classes that are not among the 2 names: 1"),
        ("-1 0.5 0.5 0.1 0.1", "objects of classes that are not among the 2 names: 1"),
        ("0.5 0.5 0.5 0.1 0.1", "objects of classes that are not among the 2 names: 1"),
        ("0 0.5 0.5 0.1", "lines of 4 numbers, where an object has a class and at least four: 1"),
        ("0 20 20 10 10", "objects whose numbers are not parts of the image, 0 to 1: 1"),
        ("0 nan 0.5 0.1 0.1", "objects whose numbers are not parts of the image, 0 to 1: 1"),
        ("square 0.5 0.5 0.1 0.1", "lines that are not numbers: 1"),
        ("0 0.5 0.5 0 0.1", "boxes of no area: 1"),
        ("0 .1 .1 .2 .2 .3 .3 .4", "lines of 8 numbers, where an object has a class and at least four: 1"),
    ],
)
def test_a_bad_line_is_left_out_and_counted(line: str, said: str, truth: Parts, tmp_path: Path) -> None:
    as_yolo(tmp_path, truth)
    file = next((tmp_path / "labels" / "train").glob("*0.txt"), sorted((tmp_path / "labels" / "train").iterdir())[0])
    count = len(file.read_text().split("\n"))
    with open(file, "a") as out:
        out.write(f"\n{line}\n\n")
    found = read_annotated(tmp_path)
    assert found.faults.lines()[0].startswith(f"{said} ("), found.faults.lines()
    image = next(i for i in found.parts["train"].images if i.file.stem == file.stem)
    assert len(image.annotations) == count


def test_an_object_is_as_large_as_its_outline(tmp_path: Path) -> None:
    """Not as its box: COCO's sizes are of that."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 0 0 1 0.9 1 1 0 0.1\n0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [bar]\n")
    bar, box = read_annotated(tmp_path).parts[""].images[0].annotations
    assert (bar.box, bar.area) == ((0, 0, 200, 100), pytest.approx(2000))
    assert box.area == pytest.approx(800)


def test_two_classes_of_one_name_are_refused(truth: Parts, tmp_path: Path) -> None:
    """Taken as one, they would shift the numbers of those after them."""
    as_yolo(tmp_path, truth)
    text = (tmp_path / "data.yaml").read_text()
    names = text[text.index("names:") :]
    (tmp_path / "data.yaml").write_text(text.replace(names, "names: [square, square, circle]\n"))
    with pytest.raises(InputError, match="class name square appears twice"):
        read_annotated(tmp_path)


def test_scores_and_keypoints_are_passed_over(truth: Parts, tmp_path: Path) -> None:
    as_yolo(tmp_path, truth)
    for path in (tmp_path / "labels").rglob("*.txt"):
        path.write_text("\n".join(f"{line} 0.9" for line in path.read_text().splitlines()))
    assert_same(read_annotated(tmp_path).parts, truth)
    for path in (tmp_path / "labels").rglob("*.txt"):
        path.write_text("\n".join(f"{line} 0.1 2 0.3 0.3 1" for line in path.read_text().splitlines()))
    (tmp_path / "data.yaml").write_text((tmp_path / "data.yaml").read_text() + "kpt_shape: [2, 3]\n")
    assert_same(read_annotated(tmp_path).parts, truth)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("names: {1000000: a}\ntrain: images", "'names' are not numbered from 0"),
        ("names: []\ntrain: images", "'names' is no list of classes"),
        ("names: [a]\ntrain: nowhere", "'train' names nowhere, which is not there"),
        ("a: [", "not YAML"),
        ("- 1", "it has no 'names'"),
        ("names: [a, b]\ntrain: empty", "no label file of its 0 images"),
    ],
)
def test_a_data_yaml_that_makes_no_sense_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(InputError, match=said):
        read_annotated(tmp_path / "data.yaml")
