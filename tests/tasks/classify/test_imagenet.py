"""ImageNet's other test sets: numbered classes, reassessed labels, and masks of fewer classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from making import fails
from PIL import Image

import convnext
from convnext.tasks.classify.imagenet import VALIDATION_IMAGES, numbered_classes
from convnext.tasks.evaluate import evaluate
from convnext.weights import save_state
from convnext.weights.class_names import imagenet_classes

NUMBERS = (2, 10, 999)  # "10" comes before "2" among text


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "1k.safetensors"
    save_state(path, convnext.create_model("convnextv2_atto", head_init_scale=50).state_dict())
    return path


def write_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(str(folder.name)))
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{name}.png")


def measured(weights: Path, data: Path, **options: object) -> dict:
    return evaluate(str(weights), str(data), workers=0, device="cpu", image_size=32, **options)


def test_numbered_classes_are_those_of_the_ids(weights: Path, tmp_path: Path) -> None:
    ids = imagenet_classes()
    for number in NUMBERS:
        write_images(tmp_path / "v2" / str(number), ["a", "b", "c"])
        (tmp_path / "ids").mkdir(exist_ok=True)
        (tmp_path / "ids" / ids[number]).symlink_to(tmp_path / "v2" / str(number))
    out = tmp_path / "out"
    found = measured(weights, tmp_path / "v2", out=out)
    assert found.pop("costliest")
    assert found == measured(weights, tmp_path / "ids")
    assert {row.split(",")[1] for row in (out / "images.csv").read_text().splitlines()[1:]} == {ids[n] for n in NUMBERS}


def test_other_folders_are_not_taken_for_numbers(tmp_path: Path) -> None:
    ids = imagenet_classes()
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
    assert numbered_classes(ids[:3], tmp_path) == ["0", "1", "2"]
    assert numbered_classes(["0", "1"], tmp_path) is None
    assert numbered_classes([*ids, "n99999999"], tmp_path) is None
    (tmp_path / "01").mkdir()
    assert numbered_classes(ids, tmp_path) is None


def test_answers_among_the_reassessed_labels_are_right(weights: Path, tmp_path: Path) -> None:
    """One is right by its second label, one is wrong, one has no label and is left out, and one is no such image."""
    names = [f"ILSVRC2012_val_{number:08}" for number in (1, 2, 3)]
    data = tmp_path / "val"
    write_images(data / imagenet_classes()[7], [*names, "other"])
    rows = measured(weights, data, out=tmp_path)
    assert "real_top1" not in rows
    predictor = convnext.load(weights, device="cpu", backend="torch")
    predictor.see(32)
    guess = [
        int(
            predictor.model(
                predictor.prepare(predictor.read(data / imagenet_classes()[7] / f"{name}.png"))[None]
            ).argmax()
        )
        for name in names
    ]
    labels: list[list[int]] = [[] for _ in range(VALIDATION_IMAGES)]
    labels[0], labels[1] = [999 - guess[0], guess[0]], [(guess[1] + 1) % 1000]
    (tmp_path / "real.json").write_text(json.dumps(labels))
    assert measured(weights, data)["real_top1"] == 50
    (tmp_path / "real.json").rename(data / "real.json")
    assert measured(weights, data)["real_top1"] == 50


@pytest.mark.parametrize(("text", "said"), [("{", "expected a list"), ("[[1], [2]]", "labels of 2 images")])
def test_another_file_is_refused(
    text: str, said: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_images(tmp_path / "val" / imagenet_classes()[7], ["a"])
    (tmp_path / "real.json").write_text(text)
    assert said in fails(capsys, "evaluate", weights, tmp_path / "val")
