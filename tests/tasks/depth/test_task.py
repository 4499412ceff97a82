"""Depth as a user meets it: check data, train, resume, evaluate, predict; and what is said of bad data."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cards import check_card, photo_of, snippet_of
from making import FAST_SEGMENT, copied, fails, make_depths
from PIL import Image
from safetensors.torch import load_file
from vacuous import nonempty

import convnext
from convnext import InputError, cli
from convnext.data.sources.depth_maps import read_depths
from convnext.inference.depth import DepthUnit
from convnext.runs.directory import Run
from convnext.tasks.depth import Depth
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.depth.data import DepthTransform
from convnext.tasks.depth.metrics import depth_errors
from convnext.tasks.depth.task import depth_loss
from convnext.tasks.recipes import build_config
from convnext.train.check import check
from convnext.train.trainer import Trainer


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_depths(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that knows its eight images by heart."""
    out = tmp_path_factory.mktemp("runs") / "depth"
    options = [
        "--epochs",
        "25",
        "--eval-every",
        "13",
        "--scale",
        "1,1",
        "--base-lr",
        "6.4e-2",
        "--photometric",
        "false",
    ]
    options += ["--image-size", "96", "--short-side", "96", "--test-size", "96"]
    assert cli.main(["train", "depth", str(scenes), "--out", str(out), *FAST_SEGMENT, *options]) == 0
    return out


def test_a_run_holds_figures_pictures_and_a_card(run: Path) -> None:
    names = {"abs_rel", "rmse", "mae", "delta1", "delta2", "delta3"}
    assert set(json.loads((run / "result.json").read_text())) == names
    assert {"curves.png", "gallery.png", "README.md"} <= {path.name for path in run.iterdir()}
    assert [row["epoch"] for row in Run(run).rows() if "delta1" in row] == [13, 25]


def test_the_cards_snippet_runs(run: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = copied(run, tmp_path / "run")
    found = check_card(own, "depth-estimation")
    shutil.copyfile(photo_of(scenes), own / "photo.jpg")
    monkeypatch.chdir(own)
    exec(snippet_of(found), {})


def test_depths_are_learnt_and_measured_alike_everywhere(
    run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "rows"
    command = ["evaluate", str(run), str(scenes), "--json", "--workers", "0", "--out", str(out)]
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    found.pop("costliest", None)
    metrics = json.loads((run / "result.json").read_text())
    assert {name: found[name] for name in metrics} == pytest.approx(metrics, rel=1e-4)
    assert found["delta1"] > 75  # of the same depth everywhere, 40
    assert found["abs_rel"] < 0.2
    rows = (out / "images.csv").read_text().splitlines()
    assert rows[0] == "path,pixels,abs_rel,rmse,mae,delta1,delta2,delta3,cost"
    assert np.mean([float(row.split(",")[2]) for row in rows[1:]]) == pytest.approx(found["abs_rel"], abs=1e-5)
    moved = shutil.copy(run / "model.safetensors", tmp_path / "moved.safetensors")
    assert cli.main(["evaluate", str(moved), *command[2:-2]]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_predict_writes_depths_that_training_takes(run: Path, scenes: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "depths"
    assert cli.main(["predict", str(run), str(scenes / "images" / "val"), "--out", str(out), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = json.loads((out / "depths.json").read_text())
    assert [{**line, "file": row["file"]} for line, row in zip(lines, rows, strict=True)] == rows
    estimator = convnext.load(run)
    for row in rows:
        depths = estimator(row["image"])
        assert np.abs(read_depths(out / row["file"], estimator.depth_scale) - depths).max() <= 0.0005 + 1e-6
        assert row["least"] == pytest.approx(float(depths.min()), abs=1e-4)
        with Image.open(out / row["file"].replace(".png", "-depth.png")) as picture:
            assert picture.size == (depths.shape[1], depths.shape[0])


def test_depths_have_the_images_size_and_do_not_depend_on_the_others(run: Path) -> None:
    estimator = convnext.load(run, backend="torch")
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for h, w in ((1, 1), (1, 90), (47, 33), (80, 61))
    ]
    together = estimator(images, batch_size=3)
    for image, depths in zip(images, together, strict=True):
        assert depths.shape == (image.height, image.width)
        assert depths.dtype == np.float32
        assert (depths > 0).all()
        assert np.array_equal(depths, estimator(image))
        assert np.array_equal(depths, estimator(np.asarray(image)))


def test_a_resumed_run_is_the_undisturbed_one(scenes: Path, tmp_path: Path) -> None:
    command = ["train", "depth", str(scenes), *FAST_SEGMENT, "--save-every", "1", "--loss", "l1", "--ema", "0.9"]
    assert cli.main([*command, "--out", str(tmp_path / "whole")]) == 0
    assert cli.main([*command, "--out", str(tmp_path / "broken")]) == 0
    last = sorted((tmp_path / "broken" / "checkpoints").iterdir())[-1]
    shutil.rmtree(last)
    assert cli.main([*command, "--out", str(tmp_path / "broken"), "--resume"]) == 0
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(a[key], b[key]) for key in nonempty(a))


def test_a_segmenter_and_a_classifier_are_taken_over(run: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "more"
    options = [*FAST_SEGMENT, "--epochs", "1", "--base-lr", "0"]
    assert cli.main(["train", "depth", str(scenes), "--init", str(run), "--out", str(out), *options]) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (run, out))
    same = [key for key in before if key in after and torch.equal(before[key], after[key])]
    assert "backbone.stages.0.0.dwconv.weight" in same
    assert "classify.1.weight" in same


def test_check_counts_and_names(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    found = check(data, task="depth", workers=0)
    assert found.found[0].startswith("train: 8 of 8 images can be used, ")
    assert "known depths from 1" in found.found[0]
    assert not found.left_out
    Image.new("RGB", (50, 61)).save(data / "depth" / "train" / "0.png")
    Image.fromarray(np.zeros((50, 70), dtype=np.uint16)).save(data / "depth" / "train" / "1.png")
    (data / "depth" / "train" / "2.png").unlink()
    Image.fromarray(np.ones((5, 5), dtype=np.uint16)).save(data / "depth" / "train" / "3.png")
    (data / "images" / "train" / "4.png").write_bytes(b"\x89PNG torn")
    assert cli.main(["train", "depth", str(data), "--check"]) == 1
    said = capsys.readouterr()
    text = said.out + said.err
    assert "3 of 7 images can be used" in text
    for part in (
        "RGB pixels, not depths",
        "no depth in it is known",
        "images without a depth map",
        "its depth map 5×5",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--depth-scale", "0"], "--depth-scale must be positive"),
        (["--loss", "l2"], "l1"),
        (["--scale", "2,1"], "--scale must be two positive numbers, the smaller first"),
    ],
)
def test_wrong_options_are_a_line(
    options: list[str], said: str, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert said in fails(capsys, "train", "depth", scenes, "--out", tmp_path / "run", *options)


def test_data_of_another_form_are_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    assert "no folder 'depth'" in fails(capsys, "train", "depth", tmp_path / "data", "--out", tmp_path / "run")
    flat = make_depths(tmp_path / "flat", train=3, val=2)
    for path in (flat / "depth").rglob("*.png"):
        with Image.open(path) as image:
            size = image.size
        Image.fromarray(np.full(size[::-1], 700, dtype=np.uint16)).save(path)
    line = fails(capsys, "train", "depth", flat, "--out", tmp_path / "run", *FAST_SEGMENT)
    assert "every depth is 0.7; there is nothing to learn" in line


@pytest.mark.parametrize("recipe", [recipe.__name__ for recipe in Depth.recipes])
def test_every_recipe_takes_a_step(recipe: str, scenes: Path, tmp_path: Path) -> None:
    small = {"image_size": 32, "fpn_dim": 32, "aux_dim": 16, "batch_size": 2, "workers": 0, "precision": "fp32"}
    config = build_config(recipe, "convnextv2_atto", DepthConfig).override({**small, "data": str(scenes)})
    task = Depth().build(config, Depth().read(config)[1])
    trainer = Trainer(task, Run.create(tmp_path / "run", config, overwrite=False))
    trainer.length.step = len(trainer.loader)
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.model.train()
    assert math.isfinite(trainer.train_step(next(iter(trainer.loader))))
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_errors_by_hand() -> None:
    truth = np.array([[0, 1, 2, 4]], dtype=np.float32)
    found = depth_errors(truth, np.array([[9, 1, 2.4, 2]], dtype=np.float32))
    assert found["abs_rel"] == pytest.approx((0 + 0.2 + 0.5) / 3)
    assert found["rmse"] == pytest.approx(((0 + 0.4**2 + 2**2) / 3) ** 0.5)
    assert found["mae"] == pytest.approx(2.4 / 3)
    assert [found[f"delta{n}"] for n in (1, 2, 3)] == pytest.approx([200 / 3, 200 / 3, 200 / 3])
    assert depth_errors(truth, np.zeros_like(truth))["delta3"] == 0


@pytest.mark.parametrize("by_log", [False, True])
def test_the_loss_is_of_known_depths_alone_and_each_image_its_own(by_log: bool) -> None:
    unit = DepthUnit(by_log, 0.5, 2.0)
    depths = torch.rand(3, 8, 8) + 0.5
    torch.testing.assert_close(unit.to_depths(unit.of_depths(depths)), depths)
    outputs = unit.of_depths(depths) + 1
    depths[0, :4], depths[1] = 0, 0
    outputs[0, :4] = 1e6
    assert depth_loss(outputs, depths, unit).item() == pytest.approx(2 / 3, rel=1e-5)
    alone = torch.stack([depth_loss(outputs[n : n + 1], depths[n : n + 1], unit) for n in range(3)])
    torch.testing.assert_close(depth_loss(outputs, depths, unit), alone.mean())


def test_what_is_enlarged_is_nearer_and_moves_with_its_pixels() -> None:
    grey = np.zeros((40, 60), dtype=np.uint8)
    grey[10:30, 20:50] = 200
    image = Image.fromarray(grey).convert("RGB")
    depths = np.where(grey > 0, 2.0, 6.0).astype(np.float32)
    for factor in (1.0, 2.0):
        transform = DepthTransform(48, 40, 400, (factor, factor), hflip=0.5, photometric=False)
        for seed in range(6):
            torch.manual_seed(seed)
            pixels, crop = transform(image, depths)
            assert pixels.shape == (3, 48, 48)
            assert set(crop.unique().tolist()) <= {0.0, 2 / factor, 6 / factor}
            inside = crop == 2 / factor
            assert (pixels[0][inside] > 90).float().mean() > 0.97
            assert (pixels[0][crop == 6 / factor] < 110).float().mean() > 0.97


@pytest.mark.parametrize("values", [(None, 1.0), (0.0, 0.0), (0.0, float("nan")), (10**400, 1.0)])
def test_a_unit_without_numbers_is_refused(values: tuple) -> None:
    with pytest.raises(InputError, match="depths have a finite mean and a deviation above 0"):
        DepthUnit(False, *values)
