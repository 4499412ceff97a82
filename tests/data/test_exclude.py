"""Lists of images to leave out, in every form, and of all forms of data."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest
from making import make_folder, make_objects

from convnext.data.check.problem import Problem
from convnext.data.exclude import read_exclude
from convnext.data.image_set import read_images, read_split, read_train_val
from convnext.data.parts import divide_images, measured_images
from convnext.data.shards.pack import pack_shards
from convnext.data.sources.detection import read_annotated
from convnext.data.sources.inputs import expand
from convnext.data.splits import HoldOut
from convnext.errors import InputError
from convnext.reports.problems import write_exclusions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", train=3, val=2, size=8)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def names(samples: object, root: Path) -> set[str]:
    return {Path(source).relative_to(root).as_posix() for source in samples.sources}


def test_tables_lines_and_absolute_paths_are_read_alike(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "convnext")
    whole = f"{data.resolve()}/val/blue/1.png"
    lists = [
        write(tmp_path / "a.csv", f"path,reason,of\ntrain/red/0.png,copy,val/red/1.png\n{whole},label,\n"),
        write(tmp_path / "b.csv", f"path\n./train/red/0.png\n{whole}\n"),
        write(tmp_path / "c.txt", f"train\\red\\0.png\n\n{whole}\n"),
        write(tmp_path / "d.jsonl", f'{{"path": "train/red/0.png"}}\n{{"path": "{whole}"}}\n'),
    ]
    for file in lists:
        train, val, origin = read_train_val(data, exclude=read_exclude(file))
        assert (len(train), len(val), len(origin.left_out)) == (8, 5, 2)
        assert "train/red/0.png" not in names(train, data)
        assert "val/blue/1.png" not in names(val, data)
        assert f"2 images left out by {file}" in caplog.text


def test_a_folder_given_by_a_relative_path(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exclude = read_exclude(write(tmp_path / "a.txt", f"train/red/0.png\n{data.resolve()}/train/red/1.png\n"))
    monkeypatch.chdir(tmp_path)
    assert len(read_train_val("data", exclude=exclude).train) == 7
    monkeypatch.chdir(data)
    assert len(read_train_val(".", exclude=exclude).train) == 7


def test_a_name_that_is_not_utf_8_is_left_out_as_a_check_lists_it(data: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"train/red/caf\xe9, 1.png")
    shutil.copy(data / "train" / "red" / "0.png", data / odd)
    write_exclusions([Problem("copy", "train", (odd,), "", leave_out=(odd,))], tmp_path / "a.csv")
    (tmp_path / "b.txt").write_bytes(os.fsencode(f"{odd}\n"))
    for file in (tmp_path / "a.csv", tmp_path / "b.txt"):
        train = read_train_val(data, exclude=read_exclude(file)).train
        assert (len(train), odd in names(train, data)) == (9, False)


def test_files_that_are_not_there_are_counted_and_named(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = "".join(f"gone/{n}.png\n" for n in range(5))
    read_train_val(data, exclude=read_exclude(write(tmp_path / "a.txt", f"train/red/0.png\n{lines}")))
    assert f"1 image left out by {tmp_path}/a.txt; 5 files that it names not in {data}" in caplog.text
    assert "gone/0.png, gone/1.png, gone/2.png and more" in caplog.text


def test_nothing_is_left_out_by_a_list_of_nothing(data: Path, tmp_path: Path) -> None:
    for name, text in (("a.csv", "path,reason,of\n"), ("b.csv", ""), ("c.txt", "\n"), ("d.jsonl", "")):
        assert len(read_train_val(data, exclude=read_exclude(write(tmp_path / name, text))).train) == 9
    assert read_exclude(None) is None


def test_bad_lists_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: cannot be read"):
        read_exclude(tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"none\.csv is not a file"):
        read_exclude(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no column path"):
        read_exclude(write(tmp_path / "x.csv", "name,reason\na,b\n"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_exclude(tmp_path / "bytes.txt")
    every = "".join(f"{path.relative_to(data)}\n" for path in data.rglob("*.png"))
    with pytest.raises(InputError, match="leaves no image"):
        read_train_val(data, exclude=read_exclude(write(tmp_path / "all.txt", every)))


def test_a_class_without_images_is_none(data: Path, tmp_path: Path) -> None:
    every = "".join(f"{path.relative_to(data)}\n" for path in data.rglob("red/*.png"))
    found = read_train_val(data, exclude=read_exclude(write(tmp_path / "a.txt", every)))
    assert found.train.classes == ("blue", "green")


def test_pretraining_shards_boxes_and_inputs(data: Path, tmp_path: Path) -> None:
    exclude = read_exclude(write(tmp_path / "a.txt", "train/red/0.png\nval/red/0.png\n"))
    images = read_images(data, exclude)
    assert (len(images), images.excluded) == (13, 2)
    assert len(list(expand([str(data)], exclude))) == 13
    pack_shards(str(data), tmp_path / "fewer", shard_bytes=10**6, exclude=tmp_path / "a.txt")
    assert len(read_split(tmp_path / "fewer", "all")) == 13
    pack_shards(str(data), tmp_path / "shards", shard_bytes=10**6)
    assert len(read_split(tmp_path / "shards", "all", exclude=exclude)) == 13
    assert len(list(expand([str(tmp_path / "shards")], exclude))) == 13
    boxes = make_objects(tmp_path / "boxes")
    whole = read_split(boxes, "all", form="coco")
    first = Path(whole.sources[0].split("#")[0])
    fewer = read_split(boxes, "all", form="coco", exclude=read_exclude(write(tmp_path / "b.txt", str(first))))
    assert {Path(s.split("#")[0]) for s in whole.sources} - {Path(s.split("#")[0]) for s in fewer.sources} == {first}


def test_what_training_left_out_is_not_measured_either(data: Path, tmp_path: Path) -> None:
    """Wherever the data lie; an image of that name and of other content is another image."""
    listed = write(tmp_path / "a.txt", "train/red/0.png\nval/red/0.png\n")
    origin = read_train_val(data, exclude=read_exclude(listed)).origin
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    for folder in (data, moved):
        assert len(read_split(folder, None, origin=origin)) == 5
        assert len(read_split(folder, "train", origin=origin)) == 8
        assert len(read_split(folder, "all", origin=origin)) == 15
    shutil.copy(data / "val" / "red" / "1.png", moved / "val" / "red" / "0.png")
    assert len(read_split(moved, None, origin=origin)) == 6


@pytest.mark.parametrize("form", ["folder", "folder of the part", "objects"])
def test_the_copy_of_an_image_that_was_left_out_is_measured(form: str, data: Path, tmp_path: Path) -> None:
    """Whoever copies a file between parts keeps its name; the one that is trained on is left out."""
    listed = write(tmp_path / "a.txt", "train/red/0.png\ntrain/0.png\n")
    if form == "objects":
        objects = make_objects(tmp_path / "objects")
        shutil.copy(objects / "train" / "0.png", objects / "val" / "0.png")
        parts = dict(read_annotated(objects).parts)
        _, val, origin = divide_images(str(objects), parts, HoldOut(), exclude=read_exclude(listed))
        measured, _ = measured_images(str(objects), parts, None, origin)
        assert len(measured.images) == len(val.images) == 3
        assert len(measured_images(str(objects), parts, "train", origin)[0].images) == 5
        return
    shutil.copy(data / "train" / "red" / "0.png", data / "val" / "red" / "0.png")
    _, val, origin = read_train_val(data, exclude=read_exclude(listed))
    folder = data if form == "folder" else data / "val"
    assert len(read_split(folder, None, origin=origin)) == len(val) == 6
    if form == "folder":
        assert len(read_split(folder, "train", origin=origin)) == 8
