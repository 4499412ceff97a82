"""Copies among real images and drawn ones."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from convnext.data.check.problem import Problem
from convnext.tasks.check import DataCheck
from convnext.train.check import check


def draw(path: Path, seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A picture that no other seed draws anything like, also stored at `path`."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(*size[::-1], 3)), (4, 4, 0))
    image = Image.fromarray(np.rint(127 + 120 * noise / np.abs(noise).max()).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of different pictures in two parts."""
    for number in range(24):
        part, name = ("train", "val")[number % 3 == 2], ("a", "b")[number % 2]
        draw(tmp_path / "data" / part / name / f"{number}.png", number)
    return tmp_path / "data"


def of_kind(found: DataCheck, kind: str) -> list[Problem]:
    return [problem for problem in found.problems if problem.kind == kind]


def looked_at(data: Path) -> DataCheck:
    return check(data, workers=0)


def test_different_pictures_are_no_copies(pictures: Path) -> None:
    assert not {"leak", "copy", "two-classes"} & {problem.kind for problem in looked_at(pictures).problems}


CHANGES = {
    "the same file": lambda image: image,
    "jpeg": lambda image: image,
    "smaller": lambda image: image.resize((60, 45)),
    "larger": lambda image: image.resize((180, 135)),
    "mirrored": ImageOps.mirror,
    "cropped": lambda image: image.crop((5, 12, 107, 88)),
    "mirrored and cropped": lambda image: ImageOps.mirror(image.crop((10, 5, 110, 81))),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_copy_in_another_part_is_found(change: str, pictures: Path) -> None:
    original = pictures / "train" / "a" / "0.png"
    copy = pictures / "val" / "a" / ("copy.jpg" if change == "jpeg" else "copy.png")
    if change == "the same file":
        shutil.copy(original, copy)
    else:
        CHANGES[change](Image.open(original)).save(copy, **({"quality": 30} if change == "jpeg" else {}))
    (leak,) = of_kind(looked_at(pictures), "leak")
    assert leak.paths == (f"val/a/{copy.name}", "train/a/0.png")
    assert leak.leave_out == ("train/a/0.png",)
    assert leak.part == "train, val"
    assert ("mirrored" in leak.words) == ("mirrored" in change)
    assert ("crop" in leak.words) == ("crop" in change)


def test_copies_in_one_part_keep_the_largest(pictures: Path) -> None:
    image = Image.open(pictures / "train" / "a" / "0.png")
    image.resize((240, 180)).save(pictures / "train" / "a" / "large.png")
    image.save(pictures / "train" / "a" / "anew.jpg")
    (copy,) = of_kind(looked_at(pictures), "copy")
    assert copy.paths[0] == "train/a/large.png"
    assert set(copy.leave_out) == {"train/a/0.png", "train/a/anew.jpg"}
    assert copy.words.startswith("3 copies of one picture")


def test_copies_in_two_classes_are_said_to_be(pictures: Path) -> None:
    shutil.copy(pictures / "train" / "a" / "0.png", pictures / "train" / "b" / "same.png")
    found = looked_at(pictures)
    (both,) = of_kind(found, "two-classes")
    assert set(both.paths) == {"train/a/0.png", "train/b/same.png"}
    assert "'a', 'b'" in both.words
    assert set(both.leave_out) == set(both.paths)  # nobody knows which label is right
    assert not of_kind(found, "copy")


def test_copies_that_are_held_out_in_two_classes_are_to_be_left_out_too(pictures: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(pictures / "train" / "a" / "0.png", pictures / "val" / name / "same.png")
    (both,) = of_kind(looked_at(pictures), "two-classes")
    assert set(both.leave_out) == {"train/a/0.png", "val/a/same.png", "val/b/same.png"}


def test_as_many_copies_are_said_as_are_shown(pictures: Path) -> None:
    for name in ("train/a/1.png", "val/a/1.png", "val/a/2.png"):
        shutil.copy(pictures / "train" / "a" / "0.png", pictures / name)
    found = looked_at(pictures)
    (leak,), (copy,) = of_kind(found, "leak"), of_kind(found, "copy")
    assert (len(leak.paths), leak.words) == (4, "4 copies of one picture: the same file")
    assert (len(copy.paths), copy.words) == (2, "2 copies of one picture: the same file")


@pytest.mark.parametrize(("part", "label", "kind"), [("train", "a", "copy"), ("val", "a", "leak")])
def test_a_file_that_is_listed_twice_is_not_to_be_left_out(part: str, label: str, kind: str, pictures: Path) -> None:
    """An exclude list names files: it would leave out both rows."""
    rows = [
        f"{path.relative_to(pictures).as_posix()},{path.parent.name},{path.parent.parent.name}"
        for path in sorted(pictures.rglob("*.png"))
    ]
    again = f"{pictures / 'train' / '..'}/train/a/0.png,{label},{part}"
    (pictures / "table.csv").write_text("\n".join(["path,label,split", *rows, again]))
    (problem,) = of_kind(looked_at(pictures / "table.csv"), kind)
    assert problem.words == "one file, listed twice"
    assert problem.leave_out == ()


def test_pictures_of_one_colour_are_odd_and_no_copies(pictures: Path) -> None:
    for part, name, grey in (("train", "a", 100), ("val", "b", 101)):
        Image.new("RGB", (120, 90), (grey,) * 3).save(pictures / part / name / "flat.png")
    found = looked_at(pictures)
    assert not of_kind(found, "leak")
    assert {path for problem in of_kind(found, "odd") for path in problem.leave_out} == {
        "train/a/flat.png",
        "val/b/flat.png",
    }


def test_the_order_of_images_does_not_matter(pictures: Path, tmp_path: Path) -> None:
    """Copies are found from either side: the crop may be listed first."""
    image = Image.open(pictures / "train" / "a" / "0.png")
    for name, place in (("aaa.png", (5, 12, 107, 88)), ("zzz.png", (10, 8, 116, 87))):
        image.crop(place).save(pictures / "train" / "a" / name)
    (copy,) = of_kind(looked_at(pictures), "copy")
    assert set(copy.paths) == {"train/a/0.png", "train/a/aaa.png", "train/a/zzz.png"}


def test_copies_of_real_images(real_images: Path, tmp_path: Path) -> None:
    """All of 40 copies, saved anew at JPEG quality 30 to 95, at 0.5 to 1.5 times the size, mirrored, or cropped to 80
    to 95 % of their sides, and no other pair of 400 images of Imagenette."""
    rng, expected = random.Random(0), set()
    for folder in sorted((real_images / "imagenette" / "train").iterdir()):
        for number, file in enumerate(sorted(folder.iterdir())[:40]):
            to = tmp_path / "train" / folder.name / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
            if number < 4:
                image = Image.open(file).convert("RGB")
                if number in (2, 3):
                    scale = rng.uniform(0.8, 0.95)
                    width, height = int(scale * image.width), int(scale * image.height)
                    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
                    image = image.crop((left, top, left + width, top + height))
                if number in (1, 3):
                    scale = rng.uniform(0.5, 1.5)
                    image = ImageOps.mirror(image.resize((int(scale * image.width), int(scale * image.height))))
                held = tmp_path / "val" / folder.name / f"{number}.jpg"
                held.parent.mkdir(parents=True, exist_ok=True)
                image.save(held, quality=rng.randint(30, 95))
                expected.add((f"val/{folder.name}/{number}.jpg", f"train/{folder.name}/{file.name}"))
    found = {problem.paths for problem in of_kind(looked_at(tmp_path), "leak")}
    assert len(expected) == 40
    assert found == expected
    assert not of_kind(looked_at(tmp_path), "copy")
