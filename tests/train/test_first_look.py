"""`batches.png`: what a training begins with, drawn before its first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import FAST, FAST_DETECT, FAST_SEGMENT, make_depths, make_objects, make_scenes
from PIL import Image

from convnext import cli
from convnext.reports.sheet import CELL, PictureGroup, draw_sheet, shortened
from convnext.tasks.classify.task import caption
from convnext.train.trainer import Trainer


class Enough(Exception):
    """The first step is not made."""


@pytest.fixture
def first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(trainer: Trainer, batch: object) -> float:
        raise Enough

    monkeypatch.setattr(Trainer, "train_step", stop)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def look(command: list[str], data: Path, out: Path, options: list[str]) -> np.ndarray:
    with pytest.raises(Enough):
        cli.main([*command, str(data), "--out", str(out), *options])
    return pixels_of(out / "batches.png")


@pytest.mark.usefixtures("first_step")
@pytest.mark.parametrize("mix", ["mixup=0.0", "mixup=0.8"])
def test_a_classifiers_images_are_there_before_the_first_step(mix: str, colours: Path, tmp_path: Path) -> None:
    pixels = look(["train", "classify"], colours, tmp_path / "run", [*FAST, "--set", mix]).reshape(-1, 3).astype(int)
    for colour in ((200, 40, 40), (40, 200, 40), (40, 40, 200)):  # validation images of all classes are among them
        assert (np.abs(pixels - colour).max(1) < 90).sum() > CELL**2 / 4


@pytest.mark.usefixtures("first_step")
def test_grey_images(colours: Path, tmp_path: Path) -> None:
    sheet = look(["train", "classify"], colours, tmp_path / "run", [*FAST, "--in-chans", "1"])
    assert (sheet == sheet[..., :1]).all()


@pytest.mark.usefixtures("first_step")
def test_each_task_draws_its_labels(colours: Path, tmp_path: Path) -> None:
    tasks = {
        "detect": (make_objects(tmp_path / "objects"), FAST_DETECT),
        "segment": (make_scenes(tmp_path / "scenes"), [*FAST_SEGMENT, "--ignore-index", "9"]),
        "depth": (make_depths(tmp_path / "depths"), FAST_SEGMENT),
    }
    for task, (data, options) in tasks.items():
        assert look(["train", task], data, tmp_path / task, options).shape[0] > CELL
    pretrained = look(["pretrain"], colours, tmp_path / "pretrain", [*FAST, "--image-size", "64"])
    hidden = pretrained[:, CELL:] == [124, 116, 104]  # the mean colour
    assert hidden.all(-1).mean() > 0.2


@pytest.mark.usefixtures("first_step")
def test_an_unreadable_validation_image_is_left_out(tmp_path: Path) -> None:
    data = make_objects(tmp_path / "objects")
    next((data / "val").iterdir()).write_bytes(b"no image")
    assert look(["train", "detect"], data, tmp_path / "run", FAST_DETECT).shape[0] > CELL


def test_captions() -> None:
    names = ["tench", "dog", "church"]
    assert caption(1, names) == "dog"
    assert caption((0, 2), names) == "tench, church"
    assert caption([0.0, 1.0, 1.0], names) == "dog, church"
    assert caption([0.05, 0.7, 0.25], names) == "0.70 dog\n0.25 church"


def test_a_sheet_of_odd_pictures(tmp_path: Path) -> None:
    pictures = [
        (Image.new("L", (1, 500)), "a\udcffb"),
        (Image.new("RGB", (500, 1)), "\x1b[31mred"),
        (Image.new("RGBA", (3, 3)), "W" * 300),
    ]
    draw_sheet([PictureGroup("all", pictures), PictureGroup("none", [])], tmp_path / "sheet.png")
    assert pixels_of(tmp_path / "sheet.png").shape[0] > CELL
    assert shortened("W" * 300).endswith("…")
    draw_sheet([PictureGroup("none", [])], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
