"""`convnext evaluate --groups`, `--costs` and `--calibrate`: by hand from the table of images, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from cards import sections_of
from making import copied, evaluated, fails, rows_of
from PIL import ExifTags, Image
from pyarrow import parquet
from vacuous import nonempty

from convnext import cli
from convnext.data.image_set import read_split
from convnext.runs.directory import Run
from convnext.tasks.card.write import write_card
from convnext.tasks.classify import evaluate as classify_evaluate
from convnext.tasks.subgroups import group_columns, group_names


def test_groups_equal_a_computation_by_hand(
    noisy: tuple[Path, Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data, table = noisy
    found = evaluated(capsys, run, data, "--groups", table, "--split", "val", "--out", tmp_path / "out")
    group = {str(data / row["path"]): row for row in rows_of(table)}
    right: dict[tuple[str, str], list[bool]] = {}
    for row in rows_of(tmp_path / "out" / "images.csv"):
        own = group[row["path"]]
        for by, value in (
            ("all", "all"),
            ("camera", own["camera"]),
            ("site", own["site"]),
            ("camera × site", f"{own['camera']}, {own['site']}"),
        ):
            right.setdefault((by, value), []).append(row["right"] == "True")
    ours = {(each["by"], each["group"]): each for each in found["groups"]}
    assert ours.keys() == right.keys()
    for key, own in nonempty(right.items()):
        assert ours[key]["images"] == len(own)
        assert ours[key]["metrics"]["top1"] == pytest.approx(100 * sum(own) / len(own), abs=1e-4)
        low, high = ours[key]["intervals"]["top1"]
        assert low <= ours[key]["metrics"]["top1"] <= high
    gap = next(each for each in found["gaps"] if each["by"] == "camera")
    assert (gap["lowest"], gap["highest"]) == ("bad", "good")
    assert gap["low"] > 0
    stored = json.loads((tmp_path / "out" / "groups.json").read_text())
    assert stored["gaps"] == found["gaps"]
    assert (tmp_path / "out" / "groups.png").is_file()


def test_images_that_cannot_be_read_are_of_no_group(
    noisy: tuple[Path, Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data, table = noisy
    name, *rest = table.read_text().splitlines()[1].split(",")
    table.write_text(table.read_text().replace(f"{name},{','.join(rest)}\n", f"{name},broken,0\n"))
    (data / name).write_bytes(b"\x89PNG torn")
    found = evaluated(capsys, run, data, "--groups", table, "--by", "camera", "--split", "val")
    assert found["unreadable"] == 1
    groups = {each["group"]: each["images"] for each in found["groups"]}
    assert groups.keys() == {"all", "good", "bad"}
    assert groups["all"] == found["images"] == groups["good"] + groups["bad"]


def test_groups_of_every_task(trained: tuple[str, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _, data, run = trained
    found = evaluated(capsys, run, data, "--split", "all", "--by", "size,brightness,camera", "--out", tmp_path / "out")
    everything = found["groups"][0]
    assert everything["by"] == "all"
    for name, value in nonempty(everything["metrics"].items()):
        assert value == pytest.approx(found[name], abs=1e-4), name
    assert {each["by"] for each in found["groups"]} >= {"size", "brightness", "camera", "size × camera"}
    assert rows_of(tmp_path / "out" / "groups.csv")


def test_boxes_and_cells_of_parquet_have_the_camera_and_the_row_of_their_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    for name in ("a", "b"):
        exif[ExifTags.Base.Model] = f"camera {name}"
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg", exif=exif)
    boxes = [(0, 0), (0, 1), (1, 0)]  # of two classes, two in the first image
    content = {
        "images": [{"id": n, "file_name": f"{name}.jpg", "width": 8, "height": 8} for n, name in enumerate("ab")],
        "categories": [{"id": n, "name": str(n)} for n in (0, 1)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": label, "bbox": [0, 0, 4, 4]}
            for n, (image, label) in enumerate(boxes)
        ],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    (tmp_path / "groups.csv").write_text("path,site\na.jpg,north\nb.jpg,south\n")
    part = read_split(tmp_path / "all.json", "all")
    images = [Path(source.split("#")[0]).stem for source in part.sources]
    columns, places = group_columns(part, part.open, str(tmp_path), tmp_path / "groups.csv", ["site", "camera"])
    assert places == [0, 1, 2]
    assert columns["camera"] == [f"camera {name}" for name in images]
    assert columns["site"] == [{"a": "north", "b": "south"}[name] for name in images]
    cells = [{"bytes": (tmp_path / f"{name}.jpg").read_bytes()} for name in "ab"]
    parquet.write_table(pyarrow.table({"image": cells, "label": [*"xy"]}), tmp_path / "t.parquet")
    stored = read_split(tmp_path / "t.parquet", "all")
    assert group_columns(stored, stored.open, "", None, ["camera"])[0]["camera"] == ["camera a", "camera b"]


def test_a_temperature_is_stored_and_used(
    colours: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    before = evaluated(capsys, own, colours)
    fitted = evaluated(capsys, own, colours, "--split", "train", "--calibrate")
    assert fitted["temperature"] > 0
    after = evaluated(capsys, own, colours, "--calibrated")
    assert after["top1"] == before["top1"]
    assert (after["val_loss"] != before["val_loss"]) == (abs(fitted["temperature"] - 1) > 1e-3)
    image = next((colours / "val").rglob("*.png"))
    plain, calibrated = scores(own, image, capsys), scores(own, image, capsys, "--calibrated")
    logits = np.log(plain) / fitted["temperature"]
    expected = np.exp(logits) / np.exp(logits).sum()
    assert calibrated == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_card_says_what_a_calibration_was_fitted_to(
    colours: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own, other = copied(run, tmp_path / "run"), shutil.copytree(colours, tmp_path / "other")
    assert "each half of the 12 validation images measured" in card_of(own)["Calibration"]
    evaluated(capsys, own, other, "--split", "all", "--calibrate")
    write_card(Run(own))
    assert "each half of the 36 images of `other` (all) measured" in card_of(own)["Calibration"]


def card_of(run: Path) -> dict[str, str]:
    return sections_of((run / "README.md").read_text())


def test_a_calibration_is_of_the_model_as_it_is(
    colours: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fits of other answers were stored with it."""
    own, fewer = copied(run, tmp_path / "run"), shutil.copytree(colours, tmp_path / "fewer")
    for folder in fewer.glob("*/red"):
        shutil.rmtree(folder)
    before = (own / "model.safetensors").read_bytes()
    for option in (["--classes", "data"], ["--image-size", "48"], ["--crop", "1"]):
        said = fails(capsys, "evaluate", own, fewer, "--calibrate", *option)
        assert "--calibrate fits the model as it is: without --classes data, --image-size and --crop" in said
    monkeypatch.setattr(classify_evaluate, "are_wordnet_ids", lambda names: True)  # as of ImageNet-22K, which needs no
    monkeypatch.setattr(classify_evaluate, "LARGEST_COMPARED_WHOLE", 2)  # option to be compared among fewer
    assert "give --classes model" in fails(capsys, "evaluate", own, fewer, "--calibrate", "--workers", "0")
    assert (own / "model.safetensors").read_bytes() == before


@pytest.mark.heavy
def test_a_calibration_travels_into_exports(
    colours: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = next((colours / "val").rglob("*.png"))
    assert cli.main(["export", str(run), "--format", "onnx", "--out", str(tmp_path / "x.onnx")]) == 0
    ours, exported = (scores(source, image, capsys, "--calibrated") for source in (run, tmp_path / "x.onnx"))
    assert exported == pytest.approx(ours, abs=1e-4)


def scores(source: Path, image: Path, capsys: pytest.CaptureFixture, *options: str) -> list[float]:
    capsys.readouterr()
    assert cli.main(["predict", str(source), str(image), "--json", *options]) == 0
    return [each["score"] for each in json.loads(capsys.readouterr().out)]


def test_costs_decide(colours: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "costs.csv").write_text("true,blue,green,red,ask\nblue,0,1,1,0\ngreen,1,0,1,0\nred,1,1,0,0\n")
    costs = ("--costs", tmp_path / "costs.csv", "--out", tmp_path / "out")
    found = evaluated(capsys, run, colours, *costs, "--by", "size")
    assert found["cost_of_decisions"] == 0
    assert [group["metrics"]["cost_of_decisions"] for group in nonempty(found["groups"])] == [0] * len(found["groups"])
    assert found["cost_of_answers"] == pytest.approx(1 - found["top1"] / 100, abs=1e-6)
    rows = rows_of(tmp_path / "out" / "images.csv")
    assert {(row["decision"], float(row["decision_cost"])) for row in rows} == {("ask", 0)}


def test_what_is_refused(colours: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("path,age\nnone.png,3\n")
    assert "no row for any image" in fails(capsys, "evaluate", run, colours, "--groups", table)
    assert "--by names none of" in fails(capsys, "evaluate", run, colours, "--by", ",")
    assert "--by sex: no such column" in fails(capsys, "evaluate", run, colours, "--by", "sex")
    assert "not a file" in fails(capsys, "evaluate", run, colours, "--groups", tmp_path / "nothing.csv")
    assert "give one of the two" in fails(capsys, "evaluate", run, colours, "--calibrate", "--calibrated")
    assert "cannot read" in fails(capsys, "evaluate", run, colours, "--costs", tmp_path / "nothing.csv")


def test_answers_without_scores_are_not_calibrated(
    trained: tuple[str, Path, Path], capsys: pytest.CaptureFixture
) -> None:
    task, data, run = trained
    if task == "segment":
        assert "no calibration is stored" in fails(capsys, "evaluate", run, data, "--calibrated")
        assert "nothing can be calibrated" in fails(capsys, "evaluate", run, data, "--calibrate")
    else:
        assert evaluated(capsys, run, data, "--calibrated")


def test_many_numbers_are_taken_in_quarters_and_gaps_are_said() -> None:
    cells = [str(age) for age in range(20, 60)] + [""]
    found = group_names(cells)
    assert found[-1] == "not stated"
    assert len(set(found)) == 5
    assert group_names(["1", "2", ""]) == ["1", "2", "not stated"]
    assert group_names([*cells, "old"])[0] == "20"
    assert group_names([*map(float, range(20, 60)), float("nan")]) == found  # as NumPy and pandas leave them
    assert group_names([*cells[:-1], "nan"]) == found
    assert group_names([1.0, 2.0, None]) == ["1", "2", "not stated"]
