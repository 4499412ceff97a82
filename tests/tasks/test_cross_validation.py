"""`convnext cross-validate`, and `evaluate` of runs whose division was asked for, in every task."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from making import TASKS, evaluated, fails, make_folder, rows_of

from convnext import api, cli
from convnext.errors import InputError
from convnext.runs.directory import Run

QUICK = {
    "classify": [*TASKS["classify"][1], "--epochs", "1"],
    "detect": [*TASKS["detect"][1], "--epochs", "1"],
    "segment": [*TASKS["segment"][1], "--epochs", "1"],
    "depth": [*TASKS["depth"][1], "--epochs", "1"],
}
IMAGES = {"classify": 36, "detect": 9, "segment": 11, "depth": 11}


@pytest.fixture(scope="module", params=list(QUICK))
def validated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    root = tmp_path_factory.mktemp("folds")
    data = TASKS[request.param][0](root / "data")
    command = ["cross-validate", str(data), "--task", request.param, "--folds", "2", "--out", str(root / "out")]
    assert cli.main([*command, *QUICK[request.param]]) == 0
    return request.param, data, root / "out"


def test_every_image_is_answered_once_by_the_run_that_did_not_see_it(
    validated: tuple, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    task, data, out = validated
    found = json.loads((out / "cross_validation.json").read_text())
    rows = rows_of(out / "images.csv")
    paths = Counter(row["path"] for row in rows)
    assert (len(paths), set(paths.values())) == (IMAGES[task], {1})
    assert found["images"] == IMAGES[task] == sum(fold["images"] for fold in found["folds"])
    metric = found["metric"]
    values = [fold["metrics"][metric] for fold in found["folds"]]
    assert found["mean"][metric] == pytest.approx(sum(values) / 2, abs=1e-5)
    assert found["deviation"][metric] == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=1e-5)
    for fold in found["folds"]:
        own = evaluated(capsys, out / fold["run"], data, "--out", tmp_path / fold["run"])
        assert (own["split"], own["images"]) == ("val", fold["images"])
        assert own[metric] == pytest.approx(fold["metrics"][metric])
        assert own[metric] == pytest.approx(json.loads((out / fold["run"] / "result.json").read_text())[metric])
        theirs = {row["path"] for row in rows_of(tmp_path / fold["run"] / "images.csv")}
        assert theirs == {row["path"] for row in rows if row["fold"] == str(fold["fold"])}
    if task == "classify":  # the share of right answers among all
        assert found["union"]["top1"] == pytest.approx(100 * sum(row["right"] == "True" for row in rows) / len(rows))
    if task == "depth":  # a mean over the images
        assert found["union"]["abs_rel"] == pytest.approx(
            sum(float(row["abs_rel"]) for row in rows) / len(rows), rel=1e-4
        )
    if task == "detect":
        assert len(rows_of(out / "objects.csv")) >= sum(int(row["objects"]) for row in rows)


def test_moved_data_are_divided_as_in_training(validated: tuple, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    task, data, out = validated
    run, moved = out / "fold-2", tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    shutil.copy(run / "model.safetensors", tmp_path / "copied.safetensors")
    before = evaluated(capsys, run, data)
    assert evaluated(capsys, tmp_path / "copied.safetensors", moved) == before
    train = evaluated(capsys, run, moved, "--split", "train")
    assert train["images"] == IMAGES[task] - before["images"]
    assert evaluated(capsys, run, moved, "--split", "all")["images"] == IMAGES[task]


def test_what_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data, out = make_folder(tmp_path / "data", train=4, val=2), tmp_path / "out"
    command = ["cross-validate", str(data), "--folds", "3", "--stratify", "--out", str(out), *QUICK["classify"]]
    trained: list[str] = []
    train = api.train

    def until_the_second(task: Any, data: Any, *, out: Path, **how: Any) -> Any:
        trained.append(out.name)
        if len(trained) == 2:
            raise InputError("the disk is full")
        return train(task, data, out=out, **how)

    monkeypatch.setattr(api, "train", until_the_second)
    assert cli.main(command) == 2
    capsys.readouterr()
    first = (out / "fold-1" / "result.json").stat().st_mtime_ns
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert trained == ["fold-1", "fold-2", "fold-2", "fold-3"]
    assert (out / "fold-1" / "result.json").stat().st_mtime_ns == first
    assert [fold["images"] for fold in found["folds"]] == [6, 6, 6]
    counts = Counter((row["fold"], row["truth"]) for row in rows_of(out / "images.csv"))
    assert set(counts.values()) == {2}  # each class in each fold
    assert "was begun with --seed 0, not 1" in fails(capsys, *command, "--seed", "1")


def test_folds_of_data_that_have_changed_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = make_folder(tmp_path / "data", train=4, val=2, size=16), tmp_path / "out"
    command = ["cross-validate", str(data), "--folds", "2", "--out", str(out), *QUICK["classify"]]
    assert cli.main(command) == 0
    figures = (out / "cross_validation.json").read_bytes()
    moved = shutil.move(data, tmp_path / "elsewhere")
    assert cli.main(["cross-validate", str(moved), *command[2:]]) == 0  # the same data
    assert (out / "cross_validation.json").read_bytes() == figures
    shutil.copy(moved / "train" / "red" / "0.png", moved / "train" / "red" / "9.png")
    assert "fold-1 has ended, and" in fails(capsys, "cross-validate", moved, *command[2:])


def test_what_is_not_trained_on_need_not_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = make_folder(tmp_path / "data", train=4, val=2, size=16), tmp_path / "out"
    (data / "test").mkdir()
    shutil.copy(data / "train" / "red" / "0.png", data / "test" / "0.png")  # without a class
    (tmp_path / "exclude.txt").write_text(
        "\n".join(path.relative_to(data).as_posix() for path in data.rglob("green/*.png"))
    )
    options = [*QUICK["classify"], "--exclude", str(tmp_path / "exclude.txt")]
    assert cli.main(["cross-validate", str(data), "--folds", "2", "--out", str(out), *options]) == 0
    assert {row["truth"] for row in rows_of(out / "images.csv")} == {"red", "blue"}
    assert json.loads((out / "cross_validation.json").read_text())["images"] == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--folds", "1"], "--folds must be at least 2"),
        (["--folds", "99"], "18 images of 18 images cannot make 99 folds"),
        (["--fold", "1/3"], "fold holds out one part"),
        (["--time-column", "day"], "time_column holds out one part"),
        (["--set", "folds=3"], "folds is the command's own"),
        (["--set", "data=x"], "data is the command's own"),
        (["--group-by", ""], "group_by is empty"),
        (["--group-by", "patient"], "no column patient, for there is no table"),
        (["--group-by", "folder"], "all images would be held out"),
        (["--task", "depth", "--stratify"], "--stratify is no option of `convnext train depth`"),
        (["--task", "depth", "--mixup", "1"], "--mixup is no option of `convnext train depth`"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "convnext")
    data = make_folder(tmp_path / "data", train=4, val=2, size=8)
    command = ["cross-validate", str(data), "--folds", "2", "--out", str(tmp_path / "out"), *options]
    capsys.readouterr()
    assert cli.main(command) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_read_do_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "convnext")
    data, out = make_folder(tmp_path / "data", train=4, val=2, size=16), tmp_path / "out"
    (data / "val" / "red" / "0.png").write_bytes(b"\x89PNG torn")
    options = [*QUICK["classify"], "--max-unreadable", "0.5"]
    assert cli.main(["cross-validate", str(data), "--folds", "2", "--out", str(out), *options]) == 0
    assert "2 folds, 17 images, 1 that cannot be read" in capsys.readouterr().out
    found = json.loads((out / "cross_validation.json").read_text())
    assert len(rows_of(out / "images.csv")) == found["images"] == sum(fold["images"] for fold in found["folds"]) == 17
    assert found["unreadable"] == sum(fold["unreadable"] for fold in found["folds"]) == 1
    assert "of 18 images that were held out of the model's training" in caplog.text


def test_patients_of_a_table_stay_together(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_folder(tmp_path / "data", train=6, val=2, size=16)
    lines = ["file_name,patient,day"]
    for path in sorted(data.rglob("*.png")):
        number = int(path.stem) + (6 if "val" in path.parts else 0)
        lines.append(f"{path.relative_to(data).as_posix()},p{number // 2},2024-01-{number + 1:02}")
    (data / "metadata.csv").write_text("\n".join(lines) + "\n")
    patients = {row["file_name"]: row["patient"] for row in map(dict, rows_of(data / "metadata.csv"))}
    options = [*QUICK["classify"], "--image-size", "32"]
    assert (
        cli.main(["train", "classify", str(data), "--group-by", "patient", "--out", str(tmp_path / "g"), *options]) == 0
    )
    (data / "metadata.csv").unlink()  # measuring does not need it

    def measured(run: Path, split: str) -> set[str]:
        out = tmp_path / f"{run.name}-{split}"
        evaluated(capsys, run, data, "--split", split, "--out", out)
        return {Path(row["path"]).relative_to(data).as_posix() for row in rows_of(out / "images.csv")}

    train, val = measured(tmp_path / "g", "train"), measured(tmp_path / "g", "val")
    assert len(train | val) == 24
    assert {patients[name] for name in train}.isdisjoint({patients[name] for name in val})
    card = (tmp_path / "g" / "README.md").read_text()
    assert "whole groups by `patient`" in card
    (data / "metadata.csv").write_text("\n".join(lines) + "\n")
    newest = ["--time-column", "day", "--val-fraction", "0.25"]
    assert cli.main(["train", "classify", str(data), *newest, "--out", str(tmp_path / "t"), *options]) == 0
    assert {patients[name] for name in measured(tmp_path / "t", "val")} == {"p3"}
    assert Run(tmp_path / "t").read_config()["time_column"] == "day"


def test_an_exclude_list_stands_in_the_card_and_counts_in_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = make_folder(tmp_path / "data", train=4, val=3, size=16)
    shutil.copy(data / "train" / "red" / "1.png", data / "val" / "red" / "2.png")
    (tmp_path / "exclude.csv").write_text("path,reason,of\ntrain/red/0.png,label,\nval/red/0.png,label,\n")
    out, options = tmp_path / "run", [*QUICK["classify"], "--exclude", str(tmp_path / "exclude.csv")]
    assert cli.main(["train", "classify", str(data), "--out", str(out), *options]) == 0
    card = (out / "README.md").read_text()
    assert "2 images, by `exclude.csv`" in card
    (line,) = (line for line in card.splitlines() if "byte for byte" in line)
    assert line.endswith(" 1")
    assert evaluated(capsys, out, data)["images"] == 8
    assert evaluated(capsys, out, data, "--split", "all")["images"] == 21
    (tmp_path / "more.txt").write_text("val/blue/0.png\n")
    assert evaluated(capsys, out, data, "--exclude", tmp_path / "more.txt")["images"] == 7
    assert (
        cli.main(
            [
                "pretrain",
                str(data),
                "--exclude",
                str(tmp_path / "exclude.csv"),
                "--out",
                str(tmp_path / "pre"),
                "--image-size",
                "64",
                "--epochs",
                "1",
                "--batch-size",
                "8",
                "--workers",
                "0",
            ]
        )
        == 0
    )
    assert "2 images, by `exclude.csv`" in (tmp_path / "pre" / "README.md").read_text()
