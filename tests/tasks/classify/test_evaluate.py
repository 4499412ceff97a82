"""Heads of ImageNet-22K and 12K, measured on data with fewer of their classes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from making import FAST, fails, make_folder
from PIL import Image

import convnext
from convnext import cli
from convnext.tasks.evaluate import evaluate
from convnext.weights import classes_for, save_state

KNOWN = ["n01440764", "n02123045", "n07753592"]  # tench, tabby and banana: in 22K, 12K and 1K
LACKING = "n04399382"  # of ImageNet-1K, the one that is not in 22K
HEADS = {"22k": 21841, "12k": 11821}


@pytest.fixture(scope="module", params=HEADS)
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = convnext.create_model("convnextv2_atto", num_classes=HEADS[request.param], head_init_scale=50)
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.safetensors"
    save_state(path, model.state_dict())
    return path


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named as ImageNet-1K's are: six images of each of four classes."""
    root, rng = tmp_path_factory.mktemp("thousand"), np.random.default_rng(0)
    for name in [*KNOWN, LACKING]:
        (root / name).mkdir()
        for i in range(6):
            colour = rng.integers(0, 256, 3)
            pixels = np.clip(colour + rng.normal(0, 60, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def measured(weights: Path, data: Path, **options: object) -> dict:
    return evaluate(str(weights), str(data), workers=0, device="cpu", image_size=32, **options)


def test_answers_are_compared_among_the_classes_of_the_data(
    weights: Path, thousand: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = measured(weights, thousand, out=tmp_path)
    assert found["images"] == 24

    predictor = convnext.load(weights, device="cpu")
    predictor.see(32)
    columns = [predictor.classes.index(name) for name in KNOWN]
    right = 0
    for place, name in enumerate(KNOWN):
        inputs = [predictor.prepare(predictor.read(path)) for path in sorted((thousand / name).iterdir())]
        with torch.no_grad():
            right += int((predictor.model(torch.stack(inputs))[:, columns].argmax(1) == place).sum())
    assert 0 < right < 18
    assert found["top1"] == pytest.approx(100 * right / 24, abs=1e-3)  # those of the class it lacks are wrong
    assert "val_loss" not in found
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [f"{thousand}: the model has no output for {LACKING}; 6 images of it count as wrong"]
    rows = (tmp_path / "images.csv").read_text().splitlines()
    assert sum(f",{LACKING}," in row and ",False," in row for row in rows) == 6


def test_data_whose_classes_it_all_has(
    weights: Path, thousand: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in KNOWN:
        (tmp_path / name).symlink_to(thousand / name)
    command = ["evaluate", str(weights), str(tmp_path), "--image-size", "32", "--workers", "0", "--json"]
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    few = json.loads(captured.out)
    assert "top5" not in few  # of three classes
    assert "count as wrong" not in captured.err
    assert cli.main([*command, "--classes", "model"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["top1"] < few["top1"]
    assert whole["val_loss"] > few["val_loss"]


def test_with_all_classes_of_the_model_a_lacking_one_is_refused(
    weights: Path, thousand: Path, capsys: pytest.CaptureFixture
) -> None:
    line = fails(capsys, "evaluate", weights, thousand, "--classes", "model")
    assert f"the model has no class {LACKING}" in line


def test_data_of_other_names_are_refused(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = fails(capsys, "evaluate", weights, make_folder(tmp_path / "colours"))
    assert "the model has no class blue, green, red" in line


def test_any_classifier_can_be_measured_so_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_folder(tmp_path / "data")
    assert cli.main(["train", "classify", str(data), "--out", str(tmp_path / "run"), *FAST]) == 0
    two = make_folder(tmp_path / "two", size=44)
    for split in ("train", "val"):
        for path in (two / split / "red").iterdir():
            path.unlink()
        (two / split / "red").rmdir()
    capsys.readouterr()
    losses = {}
    for choice in ("model", "data"):
        command = ["evaluate", str(tmp_path / "run"), str(two), "--workers", "0", "--json", "--classes", choice]
        assert cli.main(command) == 0
        losses[choice] = json.loads(capsys.readouterr().out)["val_loss"]
    assert losses["data"] < losses["model"]  # one class less to lose to
    (two / "val" / "blue").rename(two / "val" / "bleu")
    assert "the model has no class bleu" in fails(capsys, "evaluate", tmp_path / "run", two, "--classes", "data")


def test_a_22k_head_answers_in_words(weights: Path, thousand: Path) -> None:
    predictor = convnext.load(weights, device="cpu")
    predictor.see(32)
    names, words = classes_for(len(predictor.classes))
    assert predictor.classes == names
    label = predictor(next((thousand / KNOWN[0]).iterdir()))[0]["label"]
    assert label in words.values()
    assert predictor.restrict(["n07753592", LACKING]) == [LACKING]
    (first, second) = predictor(next((thousand / KNOWN[0]).iterdir()))
    assert first == {"label": words["n07753592"], "score": 1.0}
    assert second["score"] == 0
