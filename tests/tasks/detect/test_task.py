"""Detection as a user meets it: check data, train, resume, evaluate, predict; and what is said of bad data."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from making import FAST_DETECT, fails, make_objects
from PIL import Image
from safetensors.torch import load_file
from sitecustomize import BYTE
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.data.images.decode import read_image
from convnext.runs.directory import Run
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.read import read_detection_data
from convnext.tasks.detect.task import Detection
from convnext.tasks.recipes import RECIPES, build_config, models_of, task_of_recipe
from convnext.tasks.registry import find_task
from convnext.train.trainer import Trainer


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("data") / "objects")


@pytest.fixture(scope="module")
def run(objects: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "detector"
    options = ["--epochs", "12", "--eval-every", "4"]
    command = ["train", "detect", str(objects), "--out", str(out), *FAST_DETECT, *options]
    assert cli.main(command) == 0
    return out


def test_a_run_holds_figures_pictures_and_a_card(run: Path) -> None:
    metrics = json.loads((run / "result.json").read_text())
    assert {"mask_AP", "mask_AP50", "box_AP", "box_AR100"} <= set(metrics)
    files = {"curves.png", "precision_recall.png", "gallery.png", "per_class.csv", "README.md", "detections.json"}
    assert files <= {path.name for path in run.iterdir()}
    rows = Run(run).rows()
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert [row["epoch"] for row in rows if "mask_AP" in row] == [4, 8, 12]


def test_evaluate_gives_the_runs_own_figures(run: Path, objects: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["evaluate", str(run), str(objects), "--json", "--workers", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    metrics = json.loads((run / "result.json").read_text())
    assert found["images"] == 3
    assert {name: found[name] for name in metrics} == pytest.approx(metrics, abs=1e-3)


def test_predict_draws_and_writes_cocos_results(run: Path, objects: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "drawn"
    command = ["predict", str(run), str(objects / "val"), "--out", str(out), "--threshold", "0.06"]
    assert cli.main([*command, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    rows = json.loads((out / "detections.json").read_text())
    assert len(rows) == sum(len(line["objects"]) for line in lines) > 0
    assert {"image_id", "file_name", "category_id", "bbox", "score", "segmentation"} <= set(rows[0])
    assert rows[0]["category_id"] in (10, 20)
    for line in lines:
        with Image.open(out / f"{Path(line['image']).stem}.png") as drawn, Image.open(line["image"]) as image:
            assert drawn.size == image.size


def test_a_detector_in_python(run: Path, objects: Path) -> None:
    detector = convnext.load(run)
    image = read_image(objects / "val" / "0.png")
    found = detector(image, threshold=0.06)
    assert found == sorted(found, key=lambda each: -each["score"])
    for each in found:
        assert each["label"] in ("square", "circle")
        x0, y0, x1, y1 = each["box"]
        assert 0 <= x0 < x1 <= image.width
        assert 0 <= y0 < y1 <= image.height
        assert each["mask"].shape == (image.height, image.width)
        assert each["mask"].dtype == bool
    assert len(detector([image, objects / "val" / "1.png"])) == 2


def test_boxes_of_a_resized_copy_are_the_same_within_a_pixel(run: Path, objects: Path) -> None:
    detector = convnext.load(run)
    image = read_image(objects / "val" / "0.png")
    copy = image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST)
    transform = detector.transform
    same = detector.find([transform(image)] * 2, [(image.height, image.width), (copy.height, copy.width)])
    for a, b in nonempty(zip(*same, strict=True)):
        np.testing.assert_allclose(np.array(a.box) * 3, b.box, atol=1)
        assert b.mask.shape == (copy.height, copy.width)


def test_tiles_find_what_lies_far_apart(run: Path, objects: Path, tmp_path: Path) -> None:
    from convnext.inference.tiles import find_in_tiles

    detector = convnext.load(run)
    image = read_image(objects / "val" / "0.png")
    large = Image.new("RGB", (400, 300))
    large.paste(image, (330, 220))
    found = find_in_tiles(detector, large, 96)
    assert found
    assert all(each.mask.shape == (300, 400) for each in found)
    assert all(0 <= each.box[0] <= each.box[2] <= 400 for each in found)
    assert cli.main(["predict", str(run), str(objects / "val" / "0.png"), "--tile", "48"]) == 0


@pytest.mark.parametrize("cascade", ["false", "true"])
def test_a_stopped_run_goes_on_as_if_it_had_not(cascade: str, objects: Path, tmp_path: Path, monkeypatch) -> None:
    parts = ["--cascade", cascade, "--box-convs", "1", "--head-norm", "group", "--set", "ema=0.9"]
    command = ["train", "detect", str(objects), *FAST_DETECT, *parts]
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


def test_starting_from_a_pre_training_run(objects: Path, tmp_path: Path) -> None:
    small = ["--image-size", "64", "--epochs", "1", "--batch-size", "4", "--workers", "0", "--decoder-dim", "32"]
    small += ["--model", BYTE]
    assert cli.main(["pretrain", str(objects / "train"), "--out", str(tmp_path / "fcmae"), *small]) == 0
    command = ["train", "detect", str(objects), "--init", str(tmp_path / "fcmae"), *FAST_DETECT, "--epochs", "1"]
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == 0


def published() -> list[tuple[str, str]]:
    return [(r, m) for r in RECIPES if task_of_recipe(r).config is DetectConfig for m in models_of(r)[:1]]


@pytest.mark.parametrize(("recipe", "model"), published())
def test_every_recipe_takes_a_step_on_coco(recipe: str, model: str, real_images: Path, tmp_path: Path) -> None:
    data = str(real_images / "coco100")
    sizes = {"image_size": 96, "max_side": 128, "short_sides": (64, 96), "fpn_dim": 64, "linear_dim": 64}
    other = {"data": data, "batch_size": 2, "workers": 0, "precision": "fp32"}
    config = build_config(recipe, model, DetectConfig).override({**sizes, **other})
    train, val, origin, _ = read_detection_data(config)
    task = Detection(config, train, val, origin)
    trainer = Trainer(task, Run.create(tmp_path / "run", config, overwrite=False))
    trainer.length.step = len(trainer.loader)
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.model.train()
    assert math.isfinite(trainer.train_step(next(iter(trainer.loader))))
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_recipes_hold_the_published_values() -> None:
    v2 = build_config("mask_rcnn_v2", "convnextv2_base", DetectConfig)
    assert v2.base_lr * v2.batch_size / 256 == pytest.approx(1e-4)
    expected = dict(
        batch_size=32, epochs=36, milestones=(27, 33), warmup_steps=1000, weight_decay=0.05, layer_decay=0.95,
        layer_groups="group", drop_path=0.4, scale_jitter=(0.1, 2.0), image_size=1024, test_size=800, max_side=1333,
        soft_nms=True, fpn_dim=256, linear_dim=1024, mask_convs=4, anchor_scale=8.0, cascade=False,
    )  # fmt: skip
    assert {name: getattr(v2, name) for name in expected} == expected
    for model, rate in (("tiny", 0.4), ("small", 0.6), ("base", 0.7)):
        v1 = build_config("cascade_v1", f"convnext_{model}", DetectConfig)
        assert v1.base_lr * v1.batch_size / 256 == pytest.approx(2e-4)
        assert (v1.cascade, v1.box_convs, v1.scale_jitter, v1.short_sides) == (True, 4, None, (480, 800))
        assert v1.random_crop == 0.5
        assert v1.drop_path == rate
    assert (
        find_task("detect").default_recipe("convnextv2_base", images=200, trained=True) == "detect_small_data_finetune"
    )
    choose = find_task("detect").default_recipe
    assert choose("convnextv2_base", images=200, trained=False) == "detect_small_data"
    assert choose("convnextv2_base", images=10**5, trained=True) == "mask_rcnn_v2"
    assert choose("convnext_tiny", images=10**5, trained=True) == "mask_rcnn_v1"


def test_check_reports_what_is_wrong(objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train", "detect", str(objects), "--check"]) == 0
    said = capsys.readouterr().out
    assert "train: 6 images (0 without objects), 9 objects (0 crowds, 9 with outlines)" in said
    bad = make_objects(tmp_path / "bad")
    rows = json.loads((bad / "train.json").read_text())
    rows["annotations"][0] |= {"bbox": [1, 1, 0, 0], "segmentation": []}
    (bad / "train.json").write_text(json.dumps(rows))
    (bad / "train" / "1.png").write_bytes(b"not an image")
    Image.new("RGB", (5, 5)).save(bad / "val" / "0.png")
    assert cli.main(["train", "detect", str(bad), "--check"]) == 1
    said = capsys.readouterr().out
    assert "left out boxes of no area: 1 (annotation 1)" in said
    assert "left out images that cannot be used: 2" in said
    assert "5×5 pixels, where its annotations are for 48×64" in said


def test_bad_images_do_not_stop_a_run(tmp_path: Path) -> None:
    bad = make_objects(tmp_path / "bad")
    (bad / "train" / "1.png").write_bytes(b"not an image")
    Image.new("RGB", (5, 5)).save(bad / "val" / "0.png")
    out = tmp_path / "run"
    command = ["train", "detect", str(bad), "--out", str(out), *FAST_DETECT, "--max-unreadable", "0.5"]
    assert cli.main(command) == 0
    assert "1.png" in (out / "unreadable.txt").read_text()


def test_what_cannot_work_gets_one_line(objects: Path, run: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", tmp_path / "x"]
    assert "no such folder" in fails(capsys, "train", "detect", tmp_path / "none", *out)
    assert "--out says" in fails(capsys, "train", "detect", objects)
    assert "in_chans of a detect run is always 3, not 1" in fails(
        capsys, "train", "detect", objects, *out, "--set", "in_chans=1"
    )
    assert "--anchor-scale must be positive" in fails(capsys, "train", "detect", objects, *out, "--anchor-scale", "0")
    assert "is for `convnext pretrain`" in fails(capsys, "train", "detect", objects, *out, "--recipe", "fcmae")
    assert "--threshold" in fails(capsys, "predict", run, objects / "val", "--threshold", "2")
    assert "choose another folder" in fails(capsys, "predict", run, objects / "val", "--out", objects / "val")
    assert "--tile" in fails(capsys, "predict", run, objects / "val", "--tile", "3")
    rows = json.loads((objects / "train.json").read_text())
    for row in rows["annotations"]:
        row.pop("segmentation")
    boxes = make_objects(tmp_path / "boxes")
    (boxes / "train.json").write_text(json.dumps(rows))
    assert "--masks false" in fails(capsys, "train", "detect", boxes, *out)


def test_boxes_alone(objects: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "detect", str(objects), "--out", str(out), *FAST_DETECT, "--epochs", "1", "--masks", "false"]
    assert cli.main(command) == 0
    assert set(json.loads((out / "result.json").read_text())) >= {"box_AP"}
    found = convnext.load(out)(objects / "val" / "0.png", threshold=0.0)
    assert all("mask" not in each for each in nonempty(found))


def edited(root: Path, part: str, change: Callable[[list[dict]], object]) -> Path:
    """`make_objects` whose annotations of a part are changed in place."""
    data = make_objects(root)
    rows = json.loads((data / f"{part}.json").read_text())
    change(rows["annotations"])
    (data / f"{part}.json").write_text(json.dumps(rows))
    return data


def spoilt(rows: list[dict]) -> None:
    """Of six images, two without objects, one with an object without outline, and one with a crowd alone."""
    rows[:] = [row for row in rows if row["image_id"] > 2]
    next(row for row in rows if row["image_id"] == 4)["segmentation"] = []
    for row in rows:
        row["iscrowd"] = int(row["image_id"] == 5)


def test_what_is_not_trained_on_is_counted(tmp_path: Path, capsys, caplog: pytest.LogCaptureFixture) -> None:
    data = edited(tmp_path / "data", "train", spoilt)
    empty, bare, crowds = (
        f"images {reason}, not trained on: {count}"
        for reason, count in (
            ("without objects", 2),
            ("with an object without outline", 1),
            ("with nothing but crowds", 1),
        )
    )
    for options, expected in (
        ([], [empty, bare, crowds]),
        (["--masks", "false"], [empty, crowds]),
        (["--negatives", "true"], [bare, crowds]),
    ):
        assert cli.main(["train", "detect", str(data), "--check", *options]) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line for line in said if "not trained on" in line] == expected
        config = DetectConfig(data=str(data)).override(given(options))
        train, val, origin, _ = read_detection_data(config)
        caplog.clear()
        task = Detection(config, train, val, origin)
        logged = [record.getMessage() for record in caplog.records if "not trained on" in record.getMessage()]
        assert logged == [f"{data}: {line}" for line in expected]
        assert len(task.train) == 6 - sum(int(line[-1]) for line in expected)


def given(options: list[str]) -> dict[str, bool]:
    return {name[2:]: value == "true" for name, value in zip(options[::2], options[1::2], strict=True)}


def test_images_without_objects_are_trained_on_if_wished(tmp_path: Path) -> None:
    data, out = edited(tmp_path / "data", "train", spoilt), tmp_path / "run"
    command = ["train", "detect", str(data), "--out", str(out), *FAST_DETECT, "--negatives", "true"]
    assert cli.main(command) == 0
    rows = Run(out).rows()
    assert all(math.isfinite(row["loss"]) for row in nonempty(rows))
    assert rows[-1]["step"] == 4  # of two batches an epoch: two images have objects, and two have none


def test_an_image_whose_objects_were_all_left_out_is_no_negative(tmp_path: Path, capsys) -> None:
    def faulty(rows: list[dict]) -> None:
        first = rows[0]["image_id"]
        for row in rows:
            if row["image_id"] == first:
                row.update(bbox=[5, 5, 0, 0], segmentation=[])

    data = edited(tmp_path / "data", "train", faulty)
    cli.main(["train", "detect", str(data), "--check", "--negatives", "true"])
    assert "images whose annotations were all left out, not trained on: 1" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--check"], ["--negatives", "true"]])
def test_why_nothing_is_left_to_train_on_is_said(options: list[str], tmp_path: Path, capsys) -> None:
    """Not that masks are in the way where they are not."""
    for name, change, said, masks in (
        ("crowds", {"iscrowd": 1, "segmentation": []}, "images with nothing but crowds, not trained on: 6", False),
        ("bare", {"segmentation": []}, "images with an object without outline, not trained on: 6", True),
    ):
        data = edited(tmp_path / name, "train", lambda rows, change=change: [row.update(change) for row in rows])
        command = ["train", "detect", data, "--out", tmp_path / "run", *options]
        if name == "bare" and "--check" in options:
            assert cli.main([str(each) for each in command]) == 1  # boxes can be looked at
            line = "left out images without any outline, which training takes with --masks false: 6"
            assert line in capsys.readouterr().out
            continue
        line = fails(capsys, *command)
        assert said in line
        assert ("--masks false" in line) == masks
    assert said not in fails(capsys, *command[:2], tmp_path / "crowds", *command[3:], "--masks", "false")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("change", "said", "figures"),
    [
        ({"segmentation": []}, "val has no outlines: boxes alone are measured", "box_AP)"),
        ({"iscrowd": 1}, "val has no objects: nothing is measured", "val has no objects: nothing was measured"),
    ],
)
def test_a_val_part_on_which_little_can_be_measured(
    change: dict, said: str, figures: str, tmp_path: Path, capsys, caplog: pytest.LogCaptureFixture
) -> None:
    data = edited(tmp_path / "data", "val", lambda rows: [row.update(change) for row in rows])
    run = tmp_path / "run"
    assert cli.main(["train", "detect", str(data), "--out", str(run), *FAST_DETECT, "--epochs", "1"]) == 0
    printed = capsys.readouterr().out
    assert figures in printed
    assert f"convnext predict {run}" in printed
    assert "mask_AP" not in printed
    assert caplog.text.count(said) == 1


def test_a_val_part_with_ids_and_outlines_of_any_size(tmp_path: Path) -> None:
    """They were an error after the first epoch."""
    data, out = make_objects(tmp_path / "data"), tmp_path / "run"
    rows = json.loads((data / "val.json").read_text())
    other = {1: -1, 2: 2**70, 3: 3}
    for row in rows["images"]:
        row["id"] = other[row["id"]]
    for row in rows["annotations"]:
        row |= {"image_id": other[row["image_id"]], "segmentation": [[999_999, -999_999, -999_999, 999_999] * 50]}
    (data / "val.json").write_text(json.dumps(rows))
    assert cli.main(["train", "detect", str(data), "--out", str(out), *FAST_DETECT, "--epochs", "1"]) == 0
    assert "mask_AP" in json.loads((out / "result.json").read_text())
    assert cli.main(["evaluate", str(out), str(data)]) == 0


def test_a_val_part_without_objects(objects: Path, tmp_path: Path, capsys, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is measured, which is said; all else is as usual."""
    data = tmp_path / "data"
    shutil.copytree(objects, data)
    content = json.loads((data / "val.json").read_text())
    (data / "val.json").write_text(json.dumps({**content, "annotations": []}))
    run = tmp_path / "run"
    assert cli.main(["train", "detect", str(data), "--out", str(run), *FAST_DETECT, "--epochs", "1"]) == 0
    assert "val has no objects: nothing was measured" in capsys.readouterr().out
    assert json.loads((run / "result.json").read_text()) == {"objects": 0}
    assert cli.main(["evaluate", str(run), str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == 0
    assert caplog.text.count("has no objects: nothing is measured") == 2
