"""`convnext analyze robustness` and `resolution`: every task, in any number of processes, and after an interruption."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from making import TrainedOnce, fails, rows_of
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.deploy.export.write import export
from convnext.tasks import robustness as robust
from convnext.tasks.resolution import resolution
from convnext.tasks.robustness import corrupted_folders, robustness

SOME = ("gaussian_noise", "contrast", "glass_blur")


@pytest.fixture(scope="module")
def measured(run: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("robustness") / "out"
    command = ["analyze", "robustness", str(run), str(colours), "--out", str(out), "--workers", "0"]
    assert cli.main([*command, "--corruptions", ",".join(SOME), "--severities", "1,5"]) == 0
    return out


def test_rows_figures_and_page(measured: Path, run: Path, colours: Path) -> None:
    rows = rows_of(measured / "robustness.csv")
    steps = [("clean", "0"), *((name, severity) for name in SOME for severity in ("1", "5"))]
    assert [(row["corruption"], row["severity"]) for row in rows] == steps
    assert {row["metric"] for row in rows} == {"top1"}
    values = [float(row["value"]) for row in rows]
    assert values[0] == convnext.evaluate(str(run), str(colours), device="cpu")["top1"]
    (summary,) = rows_of(measured / "robustness-summary.csv")
    assert float(summary["mean"]) == pytest.approx(sum(values[1:]) / 6)
    assert float(summary["contrast"]) == pytest.approx((values[3] + values[4]) / 2)
    assert summary["mce"] == ""
    assert (measured / "robustness.png").exists()
    assert 'id="robustness"' in (measured / "index.html").read_text()


def test_it_does_not_depend_on_processes_batches_or_company(
    measured: Path, run: Path, colours: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((run / "model.safetensors").read_bytes())
    how: dict[str, Any] = {"corruptions": SOME, "severities": (1, 5), "workers": 2, "batch_size": 5, "device": "cpu"}
    robustness([str(run), str(copy)], str(colours), tmp_path / "out", **how)
    before = [row["value"] for row in rows_of(measured / "robustness.csv")]
    both = rows_of(tmp_path / "out" / "robustness.csv")
    for source in (run, copy):
        assert [row["value"] for row in both if row["source"] == str(source)] == before


def test_an_interrupted_one_goes_on(
    measured: Path,
    run: Path,
    colours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    out, made = tmp_path / "out", []
    out.mkdir()
    lines = (measured / "robustness.jsonl").read_text().splitlines(keepends=True)
    (out / "robustness.jsonl").write_text("".join(lines[:4]) + lines[4][:20])  # cut off within the fourth measurement
    measure = robust.measure_corrupted
    monkeypatch.setattr(robust, "measure_corrupted", lambda *given: made.append(given[1]) or measure(*given))
    how: dict[str, Any] = {"corruptions": SOME, "severities": (1, 5), "workers": 0}
    robustness([str(run)], str(colours), out, **how)
    assert len(made) == 4
    assert (out / "robustness.csv").read_text() == (measured / "robustness.csv").read_text()
    corrected = shutil.copytree(colours, tmp_path / "corrected")
    first = sorted((corrected / "val").rglob("*.png"))[0]
    other = next(place for place in sorted((corrected / "val").iterdir()) if place != first.parent)
    shutil.move(first, other / "moved.png")
    lines[0] = lines[0].replace(str(colours), str(corrected))
    (out / "robustness.jsonl").write_text("".join(lines))
    with pytest.raises(convnext.InputError, match="holds measurements of something else"):  # labels are others
        robustness([str(run)], str(corrected), out, **how)
    command = ["analyze", "robustness", run, colours, "--out", out, "--images", "6"]
    assert "holds measurements of something else" in fails(capsys, *command)
    some = ["--corruptions", "fog", "--severities", "1", "--overwrite", "--workers", "0"]
    assert cli.main([*map(str, command), *some]) == 0
    assert len(rows_of(out / "robustness.csv")) == 2


def test_data_that_are_corrupted_already(run: Path, colours: Path, tmp_path: Path) -> None:
    """ImageNet-C's folders, one corruption within a group: each severity is measured as `evaluate` does."""
    root = tmp_path / "c"
    for name, severity in (("blur/defocus_blur", 2), ("fog", 1), ("fog", 4)):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / str(severity)).symlink_to(colours / ("train" if severity == 4 else "val"))
    (found,) = robustness([str(run)], str(root), tmp_path / "out", workers=0, device="cpu")
    rows = rows_of(tmp_path / "out" / "robustness.csv")
    assert [(row["corruption"], row["severity"]) for row in rows] == [("fog", "1"), ("fog", "4"), ("defocus_blur", "2")]
    val, train = (convnext.evaluate(str(run), str(colours / part), device="cpu")["top1"] for part in ("val", "train"))
    assert [float(row["value"]) for row in rows] == [val, train, val]
    assert (found["clean"], found["kept"]) == (None, None)
    assert found["mean"] == pytest.approx(((val + train) / 2 + val) / 2)
    assert corrupted_folders(str(colours)) == {}
    with pytest.raises(convnext.InputError, match="no folder of these corruptions at severity 5"):
        robustness([str(run)], str(root), tmp_path / "none", severities=(5,))


def test_classes_called_by_numbers_are_no_severities(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for number in ("1", "2"):
            (tmp_path / part / number).mkdir(parents=True)
    assert corrupted_folders(str(tmp_path)) == {}


def test_an_export_is_measured_beside_its_run(run: Path, colours: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "x.onnx")
    how: dict[str, Any] = {"corruptions": ("pixelate",), "severities": (3,), "workers": 0}
    sources = [str(run), str(tmp_path / "x.onnx")]
    first, second = robustness(sources, str(colours), tmp_path / "out", **how)
    assert first["clean"] == second["clean"]
    assert first["pixelate"] == second["pixelate"]


@pytest.fixture(scope="module", params=["detect", "segment"])
def dense(request: pytest.FixtureRequest, trained_once: TrainedOnce) -> tuple[str, Path, Path]:
    return request.param, *trained_once(request.param)


def test_other_tasks(dense: tuple[str, Path, Path], tmp_path: Path) -> None:
    task, data, run = dense
    how: dict[str, Any] = {"images": 2, "workers": 0, "device": "cpu"}
    (found,) = robustness([str(run)], str(data), tmp_path, corruptions=("fog",), severities=(2,), **how)
    assert found["metric"] == {"detect": "mask_AP", "segment": "mIoU"}[task]
    rows = resolution([str(run)], str(data), tmp_path, factors=(1, 1.5), **how)
    assert [row["size"] for row in rows] == {"detect": [64, 96], "segment": [48, 72]}[task]
    assert rows[0]["value"] == found["clean"]
    page = (tmp_path / "index.html").read_text()
    assert 'id="robustness"' in page
    assert 'id="resolution"' in page


def test_a_model_of_another_task_is_refused(
    dense: tuple[str, Path, Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    _, data, other = dense
    assert str(data) in fails(capsys, "analyze", "robustness", other, run, data, "--out", tmp_path)
    assert str(data) in fails(capsys, "analyze", "resolution", other, run, data, "--out", tmp_path)
    assert not list(tmp_path.glob("*.csv"))  # nothing was measured before the second was opened


def test_resolution_of_a_classifier(run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["analyze", "resolution", str(run), str(colours), "--out", str(tmp_path), "--workers", "0", "--json"]
    assert cli.main([*command, "--factors", "0.5,1,2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["factor"], row["size"]) for row in rows] == [(0.5, 16), (1, 32), (2, 64)]
    for row in rows:
        own = convnext.evaluate(str(run), str(colours), device="cpu", image_size=row["size"])
        assert row["value"] == own["top1"]
        assert row["images_per_s"] > 0


def test_boxes_are_measured_by_their_format(run: Path, colours: Path, tmp_path: Path, capsys) -> None:
    """Boxes around whole images are the images."""
    val = colours / "val"
    files, names = sorted(val.rglob("*.png")), sorted(path.name for path in val.iterdir())
    content = {
        "images": [
            {"id": n, "file_name": str(file.relative_to(val)), "width": 40, "height": 40}
            for n, file in enumerate(files)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": names.index(file.parent.name), "bbox": [0, 0, 40, 40]}
            for n, file in enumerate(files)
        ],
    }
    shutil.copytree(val, tmp_path / "data")
    (tmp_path / "data" / "all.json").write_text(json.dumps(content))
    command = ["analyze", "resolution", str(run), str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--workers", "0", "--json", "--factors", "1,2", "--format", "coco"]) == 0
    for row in nonempty(json.loads(capsys.readouterr().out)):
        own = convnext.evaluate(str(run), str(val), device="cpu", image_size=row["size"])
        assert row["value"] == own["top1"]
    said = fails(capsys, "analyze", "robustness", run, tmp_path / "data", "--out", tmp_path / "x", "--format", "yolo")
    assert "no annotations found in the form of yolo" in said


def test_what_cannot_be(
    run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["analyze", "robustness", run, colours, "--out", tmp_path]
    assert "no corruption 'fogg'; nearest: fog" in fails(capsys, *command, "--corruptions", "fogg")
    assert "from 1 to 5, not 0, 6" in fails(capsys, *command, "--severities", "0,6")
    assert "--severities takes whole numbers with commas between them" in fails(
        capsys, *command, "--severities", "much"
    )
    assert "--corruptions takes names with commas between them" in fails(capsys, *command, "--corruptions", ",")
    assert "positive" in fails(capsys, "analyze", "resolution", run, colours, "--out", tmp_path, "--factors", "0")
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    assert "pip install 'convnext[robustness]'" in fails(capsys, *command)
