"""`convnext analyze`: files of each analysis, several networks side by side, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from making import TrainedOnce, charts_drawn, fails, make_folder, rows_of

import convnext
from convnext import cli
from convnext.deploy.export.write import export
from convnext.weights import save_weights


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a V1 network without a head."""
    path = tmp_path_factory.mktemp("weights") / "bare.safetensors"
    save_weights(convnext.create_model("convnext_tiny", num_classes=0), path, meta={"task": "embed"})
    return path


def test_collapse_of_two_networks(
    run: Path, bare: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["analyze", "collapse", str(run), str(bare), str(colours), "--out", str(tmp_path), "--workers", "0"]
    with charts_drawn():
        assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["source"], row["block"]) for row in found] == [
        *((str(run), i) for i in range(1, 6)),
        *((str(bare), i) for i in range(1, 19)),
    ]
    assert all(0 <= row["distance"] <= 1 for row in found)
    assert [float(row["distance"]) for row in rows_of(tmp_path / "collapse.csv")] == [row["distance"] for row in found]
    assert (tmp_path / "collapse.png").stat().st_size > 1000
    assert 'src="collapse.png"' in (tmp_path / "index.html").read_text()


def test_selectivity_is_of_what_the_data_hold_out(run: Path, colours: Path, tmp_path: Path) -> None:
    command = ["analyze", "selectivity", str(run), str(colours), "--out", str(tmp_path), "--workers", "0"]
    assert cli.main(command) == 0
    found = json.loads((tmp_path / "selectivity.json").read_text())
    assert found["images"] == 12
    assert [len(index) for index in found["index"][str(run)]] == [16, 32, 64, 64, 128]
    rows = rows_of(tmp_path / "selectivity.csv")
    assert len(rows) == 5
    assert all(float(row["q25"]) <= float(row["median"]) <= float(row["q75"]) for row in rows)


def test_pictures(run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = str(colours / "val")
    activations = ["analyze", "activations", str(run), data, "--out", str(tmp_path), "--images", "3", "--json"]
    assert cli.main([*activations, "--block", "2"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert len(files) == 3
    assert all(Path(file).exists() for file in files)
    assert cli.main(["analyze", "attribute", str(run), data, "--out", str(tmp_path), "--label", "red"]) == 0
    rows = rows_of(tmp_path / "attribute.csv")
    assert {row["label"] for row in rows} == {"red"}
    assert len(rows) == 12
    page = (tmp_path / "index.html").read_text()
    assert page.index('id="activations"') < page.index('id="attribute"')


def test_an_unreadable_image_is_named_and_passed_over(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_folder(tmp_path / "data")
    (data / "val" / "blue" / "bad.png").write_bytes(b"")
    for analysis in ("attribute", "activations"):
        command = ["analyze", analysis, str(run), str(data / "val"), "--out", str(tmp_path / "out"), "--images", "99"]
        assert cli.main(command) == 1
        assert capsys.readouterr().err.count("bad.png") == 1
    assert len(rows_of(tmp_path / "out" / "attribute.csv")) == 12
    only = tmp_path / "only.png"
    only.write_bytes(b"")
    for analysis in ("attribute", "activations"):
        assert "no image can be read" in fails(capsys, "analyze", analysis, run, only, "--out", tmp_path / "none")


def test_a_segmenter_is_looked_into_too(trained_once: TrainedOnce, tmp_path: Path) -> None:
    data, run = trained_once("segment")
    for analysis in ("collapse", "activations", "attribute"):
        command = ["analyze", analysis, str(run), str(data / "images" / "val"), "--out", str(tmp_path / "out")]
        assert cli.main(command) == 0
    assert len(rows_of(tmp_path / "out" / "collapse.csv")) == 5


@pytest.mark.parametrize("analysis", ["collapse", "selectivity", "activations", "attribute"])
def test_what_cannot_be(analysis: str, run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["analyze", analysis, run]
    assert "nowhere" in fails(capsys, *command, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "--images must be at least 1" in fails(capsys, *command, colours, "--out", tmp_path / "out", "--images", "0")
    assert "absent" in fails(capsys, "analyze", analysis, tmp_path / "absent", colours, "--out", tmp_path / "out")
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(capsys, *command, colours, "--out", tmp_path / "file" / "out")


def test_networks_without_what_is_asked_for(
    run: Path, bare: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert "names none" in fails(capsys, "analyze", "attribute", bare, colours, "--out", tmp_path)
    said = fails(capsys, "analyze", "attribute", run, colours, "--out", tmp_path, "--label", "purple")
    assert "no class 'purple'" in said
    said = fails(capsys, "analyze", "activations", run, colours, "--out", tmp_path, "--block", "13")
    assert "blocks 1 to 5, not 13" in said
    export(run, tmp_path / "x.onnx")
    said = fails(capsys, "analyze", "collapse", tmp_path / "x.onnx", colours, "--out", tmp_path)
    assert "is an export" in said
