"""Segmentation as a user meets it: check data, train, resume, evaluate, predict; and what is said of bad data."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from making import FAST_SEGMENT, fails, make_scenes
from PIL import Image
from safetensors.torch import load_file
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.data.images.decode import read_image
from convnext.data.sources.label_maps import LabelRules, examine_label_maps
from convnext.data.sources.segmentation import read_label_maps
from convnext.inference.segmenter import Segmenter, label_at, starts
from convnext.runs.directory import Run
from convnext.tasks.recipes import RECIPES, build_config, models_of, task_of_recipe
from convnext.tasks.registry import find_task
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.read import read_segmentation_data, rules_of
from convnext.tasks.segment.task import Segmentation
from convnext.train.trainer import Trainer

IGNORE = ["--ignore-index", "9"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that knows its eight images by heart."""
    out = tmp_path_factory.mktemp("runs") / "segmenter"
    options = ["--epochs", "5", "--epoch-steps", "10", "--eval-every", "3", "--scale", "1,1", "--base-lr", "6.4e-2"]
    options += ["--photometric", "false"]
    options += ["--image-size", "96", "--short-side", "96", "--test-size", "96"]
    assert cli.main(["train", "segment", str(scenes), "--out", str(out), *FAST_SEGMENT, *IGNORE, *options]) == 0
    return out


def test_a_run_holds_figures_pictures_and_a_card(run: Path) -> None:
    assert set(json.loads((run / "result.json").read_text())) == {"mIoU", "mean_accuracy", "pixel_accuracy"}
    files = {"curves.png", "confusion.png", "gallery.png", "per_class.csv", "README.md"}
    assert files <= {path.name for path in run.iterdir()}
    assert [row["epoch"] for row in Run(run).rows() if "mIoU" in row] == [3, 5]
    assert (run / "per_class.csv").read_text().splitlines()[0] == "class,pixels,iou,accuracy"


def test_eight_images_are_learnt_by_heart(run: Path, scenes: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["evaluate", str(run), str(scenes), "--split", "train", "--json", "--workers", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 8
    assert found["mIoU"] > 90


def test_evaluate_gives_the_runs_own_figures(run: Path, scenes: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["evaluate", str(run), str(scenes), "--json", "--workers", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    metrics = json.loads((run / "result.json").read_text())
    assert {name: found[name] for name in metrics} == pytest.approx(metrics, abs=1e-3)
    views = ["--scales", "0.75,1,1.25", "--flip"]
    assert cli.main(["evaluate", str(run), str(scenes), "--json", "--workers", "0", *views]) == 0
    assert json.loads(capsys.readouterr().out)["mIoU"] > 50


def test_predict_writes_indices_overlays_and_shares(run: Path, scenes: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "painted"
    assert cli.main(["predict", str(run), str(scenes / "images" / "val"), "--out", str(out), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = json.loads((out / "shares.json").read_text())
    assert [row["shares"] for row in rows] == [line["shares"] for line in lines]
    segmenter = convnext.load(run)
    for row in rows:
        assert sum(row["shares"].values()) == pytest.approx(1, abs=1e-4)
        with Image.open(out / row["file"]) as picture, Image.open(row["image"]) as image:
            assert picture.mode == "P"
            assert np.array_equal(np.asarray(picture), segmenter(image))
        with Image.open(out / row["file"].replace(".png", "-overlay.png")) as overlay:
            assert overlay.width == image.width
            assert overlay.height > image.height  # the legend


def test_predict_writes_label_maps_to_import(run: Path, scenes: Path, tmp_path: Path, capsys) -> None:
    images, out = scenes / "images" / "val", tmp_path / "set"
    assert cli.main(["predict", str(run), str(images), "--out", str(out), "--format", "maps"]) == 0
    shutil.copytree(images, out / "images")
    found = read_label_maps(out, LabelRules()).parts[""]
    segmenter = convnext.load(run)
    assert found.classes == ("sky", "ground", "box")
    assert len(found.images) == 3
    for number, image in enumerate(found.images):
        assert np.array_equal(found.open(number)[1], segmenter(image.file))
    assert "--format is one of maps, voc" in fails(capsys, "predict", run, images, "--out", out, "--format", "csv")
    assert "--out FOLDER says" in fails(capsys, "predict", run, images, "--format", "coco")


def test_label_maps_have_the_images_size(run: Path) -> None:
    segmenter = convnext.load(run)
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 90), (90, 1), *zip(*rng.integers(2, 160, (2, 34)).tolist(), strict=True)]
    assert len(sizes) == 37
    for width, height in sizes:
        labels = segmenter(Image.new("RGB", (width, height)))
        assert labels.shape == (height, width)
        assert labels.max() < 3
    assert len(segmenter([Image.new("RGB", (5, 5))] * 2)) == 2


def test_a_window_over_the_whole_image_changes_nothing(run: Path, scenes: Path) -> None:
    whole = convnext.load(run, backend="torch")
    image = whole.transform(read_image(scenes / "images" / "val" / "0.png"))
    windowed = Segmenter(whole.model, whole.classes, whole.transform, window=max(image.shape), stride=20)
    assert torch.equal(whole.scores(image), windowed.scores(image))
    sliding = Segmenter(whole.model, whole.classes, whole.transform, window=32, stride=20)
    assert sliding.scores(image).shape == whole.scores(image).shape
    agreed = (sliding.scores(image).argmax(0) == whole.scores(image).argmax(0)).float().mean()
    assert agreed > 0.8
    for length in range(1, 120):
        places = starts(length, 32, 20)
        assert {p for first in places for p in range(first, min(length, first + 32))} == set(range(length))
        assert places[-1] + 32 <= max(length, 32)


def test_scores_are_enlarged_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    scores = torch.randn(4, 17, 23)
    for size in ((50, 61), (17, 23), (9, 70)):
        whole = torch.nn.functional.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
        for rows in (1, 7, 1000):
            monkeypatch.setattr("convnext.inference.segmenter.ENLARGED", rows * 4 * size[1])
            assert (label_at(scores, size) == whole.argmax(0).numpy()).mean() > 0.999


def test_a_stopped_run_goes_on_as_if_it_had_not(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    command = ["train", "segment", str(scenes), *FAST_SEGMENT, *IGNORE, "--epoch-steps", "3", "--set", "ema=0.9"]
    assert cli.main([*command, "--out", str(tmp_path / "whole")]) == 0
    step = Trainer.train_step

    def stop(self: Trainer, batch: object) -> float:
        loss = step(self, batch)
        if self.step == 4:  # in the middle of the second epoch
            self.stop.received = 15
        return loss

    monkeypatch.setattr(Trainer, "train_step", stop)
    assert cli.main([*command, "--out", str(tmp_path / "again")]) == 128 + 15
    monkeypatch.setattr(Trainer, "train_step", step)
    assert cli.main([*command, "--out", str(tmp_path / "again"), "--resume"]) == 0
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again"))
    assert all(torch.equal(whole[name], again[name]) for name in nonempty(whole))
    assert Run(tmp_path / "whole").rows()[-1]["loss"] == Run(tmp_path / "again").rows()[-1]["loss"]


def published() -> list[tuple[str, str]]:
    return [(r, m) for r in RECIPES if task_of_recipe(r).config is SegmentConfig for m in models_of(r)[:1]]


@pytest.mark.parametrize(("recipe", "model"), published())
def test_every_recipe_takes_a_step(recipe: str, model: str, scenes: Path, tmp_path: Path) -> None:
    """With the family's smallest network in the place of its own, and a small head."""
    small = {"image_size": 32, "fpn_dim": 32, "aux_dim": 16, "batch_size": 2, "workers": 0, "precision": "fp32"}
    small |= {"model": "convnextv2_atto", "data": str(scenes), "ignore_index": 9, "reduce_zero_label": False}
    config = build_config(recipe, model, SegmentConfig).override(small)
    rules = rules_of(config)
    train, val, origin, faults = read_segmentation_data(config, rules)
    task = Segmentation(config, examine_label_maps(train, faults), val, origin, rules)
    trainer = Trainer(task, Run.create(tmp_path / "run", config, overwrite=False))
    trainer.length.step = len(trainer.loader)
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.model.train()
    assert math.isfinite(trainer.train_step(next(iter(trainer.loader))))
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_recipes_hold_the_published_values() -> None:
    for recipe, model, rate in (
        ("upernet_v1", "convnext_tiny", 0.4),
        ("upernet_v1", "convnext_small", 0.3),
        ("upernet_v1", "convnext_xlarge", 0.4),
        ("upernet_v2", "convnextv2_base", 0.4),
    ):
        config = build_config(recipe, model, SegmentConfig)
        assert config.base_lr * config.batch_size / 256 == pytest.approx(1e-4)
        assert config.epochs * config.epoch_steps == 160_000
        expected = dict(
            batch_size=16, warmup_steps=1500, weight_decay=0.05, layer_decay=0.9, layer_groups="stage",
            lr_decay="linear",
            drop_path=rate, image_size=512, window=512, stride=341, fpn_dim=512, aux_dim=256, aux_weight=0.4,
            dropout=0.1, head_norm="batch", scale=(0.5, 2.0), reduce_zero_label=True, min_lr=0.0,
        )  # fmt: skip
        assert {name: getattr(config, name) for name in expected} == expected
    assert build_config("upernet_640_v2", "convnextv2_huge", SegmentConfig).image_size == 640
    choose = find_task("segment").default_recipe
    assert choose("convnext_tiny", images=10**5, trained=True) == "upernet_v1"
    assert choose("convnextv2_base", images=10**5, trained=True) == "upernet_v2"
    assert choose("convnextv2_base", images=200, trained=True) == "segment_small_data_finetune"
    assert choose("convnextv2_base", images=200, trained=False) == "segment_small_data"


def test_check_says_what_is_there_and_what_is_wrong(scenes: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["train", "segment", str(scenes), "--check", *IGNORE]) == 0
    said = capsys.readouterr().out
    assert "train: 8 of 8 images can be used" in said
    assert "%  sky" in said
    bad = shutil.copytree(scenes, tmp_path / "bad")
    (bad / "annotations" / "train" / "0.png").unlink()
    Image.new("L", (5, 5)).save(bad / "annotations" / "val" / "2.png")
    assert cli.main(["train", "segment", str(bad), "--check", *IGNORE]) == 1
    said = capsys.readouterr().out
    assert "left out images without a label map: 1" in said
    assert "left out images that cannot be used: 1" in said


def test_check_reads_as_the_recipe_s_training_would(scenes: Path, tmp_path: Path, capsys) -> None:
    check = ["train", "segment", str(scenes), "--check", *IGNORE, "--model", "convnext_tiny"]
    said = []
    for options in ([], ["--recipe", "upernet_v1"], ["--reduce-zero-label", "true"]):
        cli.main([*check, *options])
        said.append(capsys.readouterr().out)
    assert said[0] != said[1] == said[2]
    assert "unknown recipe" in fails(capsys, *check, "--recipe", "upernet_v9")
    cli.main([*check, "--out", str(tmp_path / "run")])
    assert capsys.readouterr().out == said[0]
    assert not list(tmp_path.iterdir())


def test_other_losses_and_group_norm_train(scenes: Path, tmp_path: Path) -> None:
    options = ["--loss", "ohem", "--dice", "1", "--class-weights", "balanced", "--head-norm", "group", "--epochs", "1"]
    command = ["train", "segment", str(scenes), "--out", str(tmp_path / "run"), *FAST_SEGMENT, *IGNORE, *options]
    assert cli.main([*command, "--batch-size", "1"]) == 0


def test_what_cannot_work_gets_one_line(scenes: Path, run: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", tmp_path / "x"]
    assert "no such folder" in fails(capsys, "train", "segment", tmp_path / "none", *out)
    assert "--out says" in fails(capsys, "train", "segment", scenes, *IGNORE)
    assert "numbers that are none of the 3 classes: 9" in fails(capsys, "train", "segment", scenes, *out)
    alone = ["--batch-size", "1", "--recipe", "segment_small_data"]
    assert "--head-norm group" in fails(capsys, "train", "segment", scenes, *out, *IGNORE, *alone)
    assert "stride goes with a window" in fails(capsys, "train", "segment", scenes, *out, "--stride", "4")
    assert "--tile is not for" in fails(capsys, "predict", run, scenes / "images" / "val", "--tile", "64")
    assert "--scales takes" in fails(capsys, "evaluate", run, scenes, "--scales", "0")
    other = shutil.copytree(scenes, tmp_path / "other")
    (other / "classes.txt").write_text("a\nb\nc\n")
    assert "its classes are not the model's" in fails(capsys, "evaluate", run, other)
