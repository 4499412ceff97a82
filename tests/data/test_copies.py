"""Validation images that are training images, byte for byte, found by few reads."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import make_folder
from PIL import Image

from convnext.data import copies
from convnext.data.copies import count_copies
from convnext.data.image_set import read_train_val
from convnext.data.shards.pack import pack_shards


def counted(data: Path | str, seconds: float = 60) -> int | None:
    train, val, _ = read_train_val(data)
    return count_copies(str(data), train, val, seconds=seconds)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", train=6, val=3, size=24)


def test_copies_under_other_names_are_counted(data: Path) -> None:
    assert counted(data) == 0
    shutil.copy(data / "train" / "red" / "1.png", data / "val" / "blue" / "copy.png")
    shutil.copy(data / "train" / "red" / "1.png", data / "val" / "red" / "again.png")
    shutil.copy(data / "val" / "green" / "0.png", data / "val" / "green" / "twice.png")  # within a part
    assert counted(data) == 2


def test_files_of_one_size_and_end_are_told_apart(tmp_path: Path) -> None:
    """As uncompressed pictures whose lower half is black."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 3)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.zeros((64, 64, 3), dtype=np.uint8)
                pixels[-2:] = draws.integers(0, 256, (2, 64, 3))  # BMP stores the last row first
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.bmp")
    assert len({path.stat().st_size for path in tmp_path.rglob("*.bmp")}) == 1
    assert counted(tmp_path) == 0
    shutil.copy(tmp_path / "train" / "a" / "0.bmp", tmp_path / "val" / "b" / "9.bmp")
    assert counted(tmp_path) == 1


def test_only_files_of_equal_size_are_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(data / "train" / "red" / "1.png", data / "val" / "blue" / "copy.png")
    sizes = {part: [p.stat().st_size for p in (data / part).rglob("*.png")] for part in ("train", "val")}
    suspects = {str(p) for p in data.rglob("*.png") if p.stat().st_size in set(sizes["train"]) & set(sizes["val"])}
    assert len(suspects) < 27
    train, val, _ = read_train_val(data)
    opened: list[str] = []
    own = builtins.open
    monkeypatch.setattr(copies, "open", lambda file, *how: opened.append(file) or own(file, *how), raising=False)
    assert count_copies(str(data), train, val, seconds=60) == 1
    assert set(opened) == suspects


def test_images_in_memory_and_in_shards(data: Path, tmp_path: Path) -> None:
    assert counted("digits") is not None
    shutil.copy(data / "train" / "red" / "1.png", data / "val" / "blue" / "copy.png")
    pack_shards(str(data), tmp_path / "shards", shard_bytes=10**6)
    assert counted(tmp_path / "shards") == 1


def test_no_more_time_is_taken_than_may_be(data: Path) -> None:
    shutil.copy(data / "train" / "red" / "1.png", data / "val" / "blue" / "copy.png")
    assert counted(data, seconds=-1) is None


def test_what_took_long_is_remembered_until_a_file_changes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    shutil.copy(data / "train" / "red" / "1.png", data / "val" / "blue" / "copy.png")
    assert counted(data) == 1
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(copies, "LONG", -1)
    assert counted(data) == 1
    assert counted(data, seconds=-1) == 1
    (data / "val" / "blue" / "copy.png").touch()
    assert counted(data, seconds=-1) is None
