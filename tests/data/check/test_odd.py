"""Odd files, small classes and divided sequences."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from vacuous import nonempty

from convnext.data.check.problem import Problem
from convnext.train.check import check


def draw(path: Path, seed: int, size: tuple[int, int] = (64, 48), shift: int = 0, offset: int = 0) -> None:
    """A picture that no other seed draws anything like, moved to the side by `shift`."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(size[1], size[0] + 40, 3)), (4, 4, 0))
    noise = noise[:, shift : shift + size[0]] / np.abs(noise).max()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((127 + offset + (100 - abs(offset)) * noise).clip(0, 255).astype(np.uint8)).save(path)


def of_kind(data: Path, kind: str) -> list[Problem]:
    return [problem for problem in check(data, workers=0).problems if problem.kind == kind]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """12 images of each of two classes to train on, and 4 of each held out."""
    for number in range(32):
        part = "train" if number < 24 else "val"
        draw(tmp_path / "data" / part / "ab"[number % 2] / f"{'abcdefgh'[number % 8]}{number * 1009}x.png", number)
    return tmp_path / "data"


def test_tidy_data_have_no_problem(data: Path) -> None:
    assert check(data, workers=0).problems == []


def test_odd_files_are_named_with_all_that_is_odd(data: Path) -> None:
    draw(data / "train" / "a" / "thin.png", 100, size=(640, 40))
    draw(data / "train" / "a" / "tiny.png", 101, size=(8, 6))
    draw(data / "train" / "b" / "dark.png", 102, offset=-124)
    Image.open(data / "train" / "a" / "a0x.png").convert("RGBA").rotate(90, expand=True).save(
        data / "train" / "b" / "alpha.png"
    )
    words = {problem.paths[0].rpartition("/")[2]: problem.words for problem in of_kind(data, "odd")}
    assert words == {
        "thin.png": "16.0 times as long as wide",
        "tiny.png": "only 8×6 pixels",
        "dark.png": "nearly black",
        "alpha.png": "4 channels of 8 bits, where most have 3 channels of 8 bits",
    }
    assert not any(problem.leave_out for problem in of_kind(data, "odd"))


def test_unreadable_files_are_to_be_left_out(data: Path) -> None:
    bad = data / "val" / "a" / "bad.png"
    bad.write_bytes(b"\x89PNG torn")
    (problem,) = of_kind(data, "unreadable")
    assert (problem.part, problem.paths, problem.leave_out) == ("val", ("val/a/bad.png",), ("val/a/bad.png",))
    assert str(bad) not in problem.words


def test_small_classes(data: Path) -> None:
    for path in sorted((data / "train" / "b").iterdir())[9:]:
        path.unlink()
    for path in sorted((data / "val" / "a").iterdir())[2:]:
        path.unlink()
    found = {(problem.part, problem.words): problem for problem in of_kind(data, "small-class")}
    assert set(found) == {("train", "9 images of 'b' in train"), ("val", "2 images of 'a' in val")}
    assert all(path.startswith("val/a/") for path in nonempty(found["val", "2 images of 'a' in val"].paths))
    shutil.rmtree(data / "val" / "a")
    assert "0 images of 'a' in val" in {problem.words for problem in of_kind(data, "small-class")}


def frames(root: Path, parts: str, *, alike: bool) -> Path:
    """Frames 0, 1, 2 of a video in the parts that the letters say, t or v, beside other images."""
    for number, part in enumerate(parts):
        name = root / {"t": "train", "v": "val"}[part] / "a" / f"clip_{number:03}.png"
        draw(name, 500 if alike else 500 + number, shift=2 * number if alike else 0)
    for number in range(20):
        for part in ("train", "val"):
            draw(
                root / part / "b" / f"{'pqrstuvwxy'[number % 10]}{number}{part}.png",
                900 + number + 50 * (part == "val"),
            )
    return root


def test_a_video_in_two_parts_is_named(tmp_path: Path) -> None:
    (problem,) = of_kind(frames(tmp_path, "tttttvvvtttt", alike=True), "sequence")
    assert problem.part == "train, val"
    assert problem.words.startswith("'a/clip_#': 9 frames in train and 3 frames in val; 2 pairs of neighbours ")
    assert problem.paths[:2] == ("train/a/clip_004.png", "val/a/clip_005.png")


@pytest.mark.parametrize(("parts", "alike"), [("tttttttttttt", True), ("tttttvvvtttt", False)])
def test_no_video_is_named(parts: str, alike: bool, tmp_path: Path) -> None:
    """In one part, or of numbered images that do not look alike."""
    assert of_kind(frames(tmp_path, parts, alike=alike), "sequence") == []
