"""Files of kinds that are not read are said, not passed over; 16-bit images that use little of their range too."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from making import FAST, FAST_DETECT, FAST_SEGMENT, fails, make_folder, make_objects, make_scenes
from PIL import Image

from convnext import cli
from convnext.data.images import decode
from convnext.data.images.decode import read_image
from convnext.data.sources import image_files as find
from convnext.data.sources.image_files import find_images


@pytest.fixture
def no_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pillow-heif is not installed."""
    monkeypatch.setattr(find, "IMAGE_SUFFIXES", frozenset(find.IMAGE_SUFFIXES - {".heic", ".heif", ".hif"}))
    monkeypatch.setattr(decode, "_FORMATS", [name for name in decode._FORMATS if name != "HEIF"])


def to_heic(path: Path) -> None:
    Image.open(path).convert("RGB").save(path.with_suffix(".HEIC"))
    path.unlink()


def test_heic_is_read_where_its_library_is_installed(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, :30] = (200, 30, 30)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    to_heic(tmp_path / "1.png")
    assert [path.name for path in find_images(tmp_path)] == ["1.HEIC"]
    found = np.asarray(read_image(tmp_path / "1.HEIC")).astype(int)
    assert abs(found - pixels).mean() < 6


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    for name in ("a.CR2", "b.cr2", "c.dcm", "notes.txt", ".hidden.dcm"):
        (tmp_path / name).write_bytes(b"x")
    unread = Counter[str]()
    assert [path.name for path in find_images(tmp_path, unread)] == ["1.png"]
    assert unread == {"raw camera": 2, "DICOM": 1}


@pytest.mark.usefixtures("no_heic")
def test_heic_files_in_a_class_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_folder(tmp_path / "data")
    for path in sorted((data / "train" / "red").iterdir())[:3]:
        path.rename(path.with_suffix(".heic"))
    assert cli.main(["train", "classify", str(data), "--out", str(tmp_path / "run"), *FAST]) == 0
    said = [record.message for record in caplog.records if "HEIC" in record.message]
    assert said == ["3 HEIC files are not read: pip install 'convnext[heic]' reads HEIC"]


@pytest.mark.usefixtures("no_heic")
def test_a_folder_of_nothing_but_heic_says_so(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_folder(tmp_path / "data")
    for path in sorted((data / "train" / "red").iterdir()):
        to_heic(path)
    folder = data / "train" / "red"
    assert "8 HEIC files are not read" in fails(capsys, "predict", run, folder)
    single = next(folder.iterdir())
    with pytest.raises(decode.ImageError, match="a HEIC image, which is read where pillow-heif is installed"):
        read_image(single)


TASKS = {
    "classify": (make_folder, ["train", "classify"], FAST, "*/*/*.png"),
    "pretrain": (make_folder, ["pretrain"], ["--image-size", "64", "--epochs", "1", "--batch-size", "8"], "*/*/*.png"),
    "detect": (make_objects, ["train", "detect"], FAST_DETECT, "*/*.png"),
    "segment": (make_scenes, ["train", "segment"], [*FAST_SEGMENT, "--ignore-index", "9"], "images/*/*.png"),
}


@pytest.mark.parametrize("task", TASKS)
def test_12_bits_in_16_are_said_and_white_mends_it(task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make, command, options, pattern = TASKS[task]
    data = make(tmp_path / "data")
    for path in data.glob(pattern):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(path)
    said = []
    for name, white in (("dark", []), ("bright", ["--white", "4095"])):
        caplog.clear()
        arguments = [*command, str(data), "--out", str(tmp_path / name), *options, "--epochs", "1", *white]
        assert cli.main(arguments) == 0
        said.append([record.message for record in caplog.records if "16-bit" in record.message])
    assert len(said[0]) == 1
    assert "--white 4095 reads them brighter" in said[0][0]
    assert said[1] == []
