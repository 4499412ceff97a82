"""The card of a run: valid for the Hub, without a blank, with a snippet that runs, and nothing of this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cards import check_card, photo_of, sections_of, snippet_of
from huggingface_hub import ModelCard
from making import FAST, copied, evaluated, fails, make_folder
from sitecustomize import BYTE

from convnext import api, cli
from convnext.analysis import subgroups
from convnext.errors import InputError
from convnext.runs.directory import Run
from convnext.tasks.card.about import FIELDS, read_about
from convnext.tasks.card.metadata import emissions
from convnext.tasks.card.sections import calibration, seen
from convnext.tasks.card.stored import read_stored
from convnext.tasks.card.write import write_card
from convnext.tasks.detect.card import detection_words
from convnext.tasks.detect.recipes import mask_rcnn_v1, mask_rcnn_v2
from convnext.weights.calibration import CALIBRATION

TAGS = {"classify": "image-classification", "detect": "object-detection", "segment": "image-segmentation"}


def test_card_of_each_task(trained: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task, data, run = trained
    found, charts = check_card(run, TAGS[task]), sorted(run.glob("*.png"))
    assert {"curves.png", "batches.png"} < {path.name for path in charts}
    assert "not stated by the author (`developer` in `about.yaml`)" in found["Model"]
    assert ("Calibration" in found) == (task != "segment")
    assert "convnext evaluate . DATA --groups TABLE --out ." in found["Results by group"]
    assert all(path.stat().st_size > 2000 for path in charts), charts
    shutil.copytree(run, tmp_path / "run")
    shutil.copyfile(photo_of(data), tmp_path / "run" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "run")
    exec(snippet_of(found), {})


def test_detectors_that_see_whole_images_were_not_trained_on_crops() -> None:
    """By the published recipes without jitter, whose `image_size` says nothing."""
    for recipe, trained_on in (
        (mask_rcnn_v1("convnext_tiny"), "whole images and random parts, the short side of 480 to 800 pixels"),
        (
            mask_rcnn_v1("convnext_tiny").override({"random_crop": 0.0}),
            "whole images, the short side of 480 to 800 pixels",
        ),
        (mask_rcnn_v2("convnextv2_base"), "crops of 1024×1024 pixels"),
    ):
        stored: Any = SimpleNamespace(config=recipe, meta={}, words=detection_words(recipe, ["cat"]))
        assert seen(stored) == f"RGB images, trained on {trained_on}"


def test_card_of_pre_training(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    small = ["--image-size", "64", "--decoder-dim", "16", "--epochs", "1", "--batch-size", "8", "--workers", "0"]
    small += ["--model", BYTE]
    argv = ["pretrain", str(colours / "train"), "--out", str(run), *small, "--muon-lr-scale", "none"]
    assert cli.main(argv) == 0
    found = check_card(run, "image-feature-extraction")
    assert "Calibration" not in found
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "probe": str(tmp_path / "labelled")}))
    write_card(Run(run))
    found = check_card(run, "image-feature-extraction")  # which names no folder of this machine
    assert '| `probe` | "labelled" | null |' in found["Training"]
    shutil.copyfile(photo_of(colours), run / "photo.jpg")
    monkeypatch.chdir(run)
    exec(snippet_of(found), {})


def test_the_command_measures_the_speed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    own = copied(run, tmp_path / "run")
    assert "Not measured: `convnext card .`" in sections_of((own / "README.md").read_text())["Speed and size"]
    capsys.readouterr()
    assert cli.main(["card", str(own)]) == 0
    assert capsys.readouterr().out.strip() == str(own / "README.md")
    speed = sections_of((own / "README.md").read_text())["Speed and size"]
    for what, unit in (("One image", "ms"), ("In batches of 16", "images a second"), ("Peak memory", "MB")):
        assert re.search(rf"\*\*{what}:\*\* [\d.]+ {unit}", speed)
    assert "is not a run" in fails(capsys, "card", tmp_path)


def test_a_long_training_measures_the_speed_or_says_why_not(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api, "LONG_FOR_CARD", 0.0)
    done = subprocess.CompletedProcess([], 2, stderr="convnext: no memory")
    monkeypatch.setattr(api.subprocess, "run", lambda *command, **how: done)
    assert cli.main(["train", "classify", str(colours), "--out", str(tmp_path / "run"), *FAST]) == 0
    assert "the model's speed is not in its card: convnext: no memory" in caplog.text


def test_card_states_what_a_person_knows(run: Path, tmp_path: Path) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    (own / "about.yaml").write_text(
        "developer: A. Person\npurpose: sorting *colours*\nlicense: MIT\nwatts: 200\ndata_citation: '@misc{colours}'\n"
    )
    write_card(Run(own))
    text = (own / "README.md").read_text()
    assert ModelCard(text).data.license == "mit"
    found = sections_of(text)
    assert "**Developed by:** A. Person" in found["Model"]
    assert r"sorting \*colours\*" in found["Uses"]
    assert "@misc{colours}" in found["Citation"]


def test_the_card_says_whether_an_image_is_cut_or_warped(run: Path) -> None:
    """As `Preprocessing` does; of a crop of 1 it named a centre."""
    stored = read_stored(Run(run))
    for crop, said in (
        (0.875, "the short side resized to 36 pixels (bicubic), then the centre 32×32; mean"),
        (1.0, "RGB images, the whole of each warped to 32×32 pixels (bicubic); mean"),
    ):
        how = {**stored.meta["preprocessing"], "crop": crop}
        assert said in seen(stored._replace(meta={**stored.meta, "preprocessing": how}))


def test_the_weakest_classes_come_first_and_those_without_images_last(run: Path, tmp_path: Path) -> None:
    own = copied(run, tmp_path / "run")
    (own / "per_class.csv").write_text("class,images,f1,auroc\nempty,0,0.0,\nstrong,3,90.0,70.0\nweak,3,50.0,95.0\n")
    write_card(Run(own))
    found = sections_of((own / "README.md").read_text())["Results"]
    assert re.findall(r"^\| (empty|strong|weak) \|", found, re.MULTILINE) == ["weak", "strong", "empty"]


def test_thresholds_of_many_classes_are_cut_in_words(run: Path) -> None:
    stored = read_stored(Run(run))
    names = [f"class {n}" for n in range(23)]
    fit = {"thresholds": [0.5] * 23, "f1": [80.0] * 23, "images": 46}
    many = stored._replace(meta={**stored.meta, "classes": names, "descriptions": {}, CALIBRATION: fit})
    assert "| class 19 |" in calibration(many)
    assert "and 3 more classes" in calibration(many)


def test_card_says_which_options_differ(run: Path) -> None:
    training = sections_of((run / "README.md").read_text())["Training"]
    given = {name: json.loads((run / "config.json").read_text())[name] for name in ("epochs", "batch_size")}
    for name, value in given.items():
        assert f"| `{name}` | {value} |" in training
    assert "`data`" not in training


def test_card_holds_what_evaluate_and_analyze_wrote(
    colours: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copied(run, tmp_path / "run")
    monkeypatch.setattr(subgroups, "LEAST_IMAGES", 4)
    evaluated(capsys, own, colours, "--by", "folder", "--out", own)
    (own / "robustness-summary.csv").write_text("source,metric,clean,mean\nrun,top1,90.0,45.5\n")
    (own / "robustness.jsonl").write_text('{"data": "/home/me/colours", "split": "val", "images": 12}\n')
    write_card(Run(own))
    found = sections_of((own / "README.md").read_text())
    assert "| folder | red |" in found["Results by group"]
    assert re.search(r"\| top1 \| [\d.]+ \| [\d.]+ to [\d.]+ \|", found["Results"])
    assert "| mean | 45.5 |" in found["Robustness"]
    assert found["Robustness"].lstrip().startswith("Measured on 12 images of `colours` (val).")


def test_figures_of_other_data_stand_in_the_card_under_their_name_alone(
    colours: Path,
    run: Path,
    noisy: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Their intervals stood beside the run's own figures, and their weakest classes as those of validation images."""
    own, (other, _) = copied(run, tmp_path / "run"), noisy
    report = {name: (own / name).read_bytes() for name in ("per_class.csv", "coverage.csv", "reliability.png")}
    before = sections_of((own / "README.md").read_text())["Results"]
    found = evaluated(capsys, own, other, "--by", "folder", "--out", own)
    assert found["groups"][0]["intervals"]
    assert "another --out takes tables by class and charts" in caplog.text
    assert report == {name: (own / name).read_bytes() for name in report}
    write_card(Run(own))
    sections = sections_of((own / "README.md").read_text())
    assert sections["Results"] == before
    assert "Measured on the val images of `data`." in sections["Results by group"]
    caplog.clear()
    evaluated(capsys, own, colours, "--out", own)  # its own validation images: the report may be written anew
    assert "another --out" not in caplog.text


def test_about_beside_the_data_counts_where_the_run_has_none(tmp_path: Path) -> None:
    data, run = make_folder(tmp_path / "data"), tmp_path / "run"
    run.mkdir()
    (data / "about.yaml").write_text("developer: one\nfunder: two\n")
    (run / "about.yaml").write_text("developer: three\n")
    assert read_about(run, str(data)) == {"developer": "three", "funder": "two"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "not a YAML file"), ("- a", "expected fields"), ("devloper: x", "has a field 'devloper'")],
)
def test_about_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "about.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_about(tmp_path, str(tmp_path))


def test_an_about_that_cannot_be_read_is_said_before_training(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_folder(tmp_path / "data")
    (data / "about.yaml").write_text("devloper: x\n")
    assert "has a field 'devloper'" in fails(capsys, "train", "classify", data, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fields_of_about_are_in_the_how_to() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to.md").read_text()
    assert FIELDS
    for name in FIELDS:
        assert f"{name}:" in page


def test_emissions_name_the_hardware(run: Path) -> None:
    """The devices, or without one the processor."""
    stored = read_stored(Run(run))
    known = {"energy": {"grams": 12.5}}
    for environment, hardware in (
        ({"devices": ["H100", "H100"], "processor": "EPYC"}, "H100, H100"),
        ({"devices": [], "processor": "EPYC"}, "EPYC"),
        ({}, ""),
    ):
        found = emissions(stored._replace(facts=known, environment=environment))
        assert found is not None
        assert (found["emissions"], found["hardware_used"]) == (12.5, hardware)
        assert found["training_type"] == "pre-training"
    assert emissions(stored._replace(facts={})) is None
