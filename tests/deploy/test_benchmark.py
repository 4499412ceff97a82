"""`convnext benchmark`: what its rows hold, that a failing row stops none, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import FAST_DETECT, fails, make_objects
from peers import randomise
from vacuous import nonempty

import convnext
from convnext import InputError, cli
from convnext.deploy import benchmark as benchmarks
from convnext.deploy import benchmark_row
from convnext.deploy.benchmark import BenchmarkRow, benchmark
from convnext.deploy.own_process import run_apart
from convnext.weights import save_weights


@contextmanager
def quick_rows() -> Iterator[None]:
    """Rows are measured in this process, and briefly: one of its own takes ten seconds, and cards have a test of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks, "run_apart", lambda _, job, folder, threads: benchmark_row.measure(job, folder))
        patch.setattr(benchmark_row, "DURING", 0.0)
        patch.setattr(torch, "set_num_threads", lambda _: None)
        yield


@pytest.fixture(scope="module")
def kept(run: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a benchmark of two formats."""
    out = tmp_path_factory.mktemp("benchmark") / "kept"
    options = ["--formats", "torch,onnx", "--data", str(colours), "--threads", "1", "--out", str(out)]
    with quick_rows():
        assert cli.main(["benchmark", str(run), *options]) == 0
    return out


@pytest.fixture(scope="module")
def rows(kept: Path) -> list[dict[str, Any]]:
    return json.loads((kept / "benchmark.json").read_text())["rows"]


def test_a_row_for_each_format_and_precision(rows: list[dict[str, Any]], run: Path, kept: Path) -> None:
    names = [(row["format"], row["precision"]) for row in rows]
    assert names == [("torch", "fp32"), ("torch", "bf16"), ("onnx", "fp32"), ("onnx", "fp16")]
    for row in nonempty(rows):
        assert row["error"] is None
        measured = ("latency_ms", "images_per_s", "file_mb", "memory_mb", "load_s", "first_s")
        assert all(row[name] > 0 for name in measured)
        assert (row["export_s"] is None) == (row["format"] == "torch")
        assert row["engine"].split()[0] == {"torch": "torch", "onnx": "onnxruntime"}[row["format"]]
    sizes = [row["file_mb"] for row in rows]
    weights = (run / "model.safetensors").stat().st_size / 1e6
    assert sizes[:2] == [pytest.approx(weights)] * 2
    assert sizes[2] == pytest.approx((kept / "fp32.onnx").stat().st_size / 1e6)
    assert sizes[2] - sizes[3] == pytest.approx(weights / 2, rel=0.1)  # the graph is the same


def test_differences_are_of_the_precision(rows: list[dict[str, Any]]) -> None:
    """An untrained network in bf16 differs by more than rounding in fp32 and less than a tenth."""
    torch32, torch16, onnx32, onnx16 = (row["difference"] for row in rows)
    assert torch32 == 0
    assert onnx32 < 1e-4
    assert 1e-4 < torch16 < 0.1
    assert 1e-5 < onnx16 < 2e-2


def test_metrics_are_those_of_evaluate(rows: list[dict[str, Any]], run: Path, colours: Path, kept: Path) -> None:
    own = convnext.evaluate(str(run), str(colours), device="cpu")
    assert rows[0]["metrics"] == pytest.approx(own)
    onnx = convnext.evaluate(str(kept / "fp32.onnx"), str(colours), device="cpu", backend="onnxruntime")
    assert rows[2]["metrics"] == pytest.approx(onnx)


def test_a_row_that_fails_says_why_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = randomise(convnext.create_model("convnextv2_atto", num_classes=2))
    save_weights(model, tmp_path / "x.safetensors", meta={"task": "classify", "classes": ["a", "b"]})

    def refuse(*args: Any, **how: Any) -> None:
        raise InputError("this network does not export")

    monkeypatch.setattr(benchmarks, "export", refuse)
    options = ["--formats", "onnx,torch", "--image-size", "32"]
    capsys.readouterr()
    with quick_rows():
        assert cli.main(["benchmark", str(tmp_path / "x.safetensors"), *options]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["format", "type"]
    assert [line.split()[:2] for line in lines] == [
        ["onnx", "fp32"],
        ["onnx", "fp16"],
        ["torch", "fp32"],
        ["torch", "bf16"],
    ]
    for line in lines[:2]:
        assert "this network does not export" in line
    assert all("e" in line.split()[-1] for line in lines[2:])


def test_an_interruption_leaves_the_rows_that_were_measured(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"latency_ms": 2.0}, KeyboardInterrupt()])

    def measured(*arguments: Any) -> dict[str, Any]:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        np.savez(arguments[2] / benchmark_row.OUTPUTS, np.zeros((16, 3), dtype=np.float32))
        return answer

    monkeypatch.setattr(benchmarks, "run_apart", measured)
    assert cli.main(["benchmark", str(run), "--formats", "torch", "--out", str(tmp_path / "kept")]) == 130
    (row,) = json.loads((tmp_path / "kept" / "benchmark.json").read_text())["rows"]
    assert (row["precision"], row["latency_ms"]) == ("fp32", 2.0)


def test_a_process_that_fails_is_a_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = benchmark_row.MeasuredRow("nowhere", "torch", "fp32", [1], 1, None, None)
    with pytest.raises(InputError, match=r"^no published weights 'nowhere'"):
        run_apart(benchmark_row.__name__, job, made_inputs(tmp_path), 1)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(InputError, match="its process ended with status 1"):
        run_apart(benchmark_row.__name__, job, tmp_path, 1)


def made_inputs(folder: Path) -> Path:
    np.save(folder / benchmark_row.INPUTS, np.zeros((1, 3, 32, 32), dtype=np.float32))
    return folder


def test_medians_are_of_calls_after_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of our own: calls of 9, 9, 9 (warming), then 1, 2, 3, 50, 50 seconds."""
    clock, lengths = [0.0], iter([9, 9, 9, 1, 2, 3, 50, 50])

    def call() -> None:
        clock[0] += next(lengths)

    monkeypatch.setattr(benchmark_row.time, "perf_counter", lambda: clock[0])
    assert benchmark_row.median_call(call, 5)[1] == 3
    lengths = iter([9, 8])
    assert benchmark_row.median_call(call, 5, 10)[1] == 8  # one of each where time is short


@pytest.mark.heavy
def test_a_detector_is_measured_image_by_image(tmp_path: Path) -> None:
    data = make_objects(tmp_path / "data")
    options = [*FAST_DETECT, "--epochs", "1"]
    assert cli.main(["train", "detect", str(data), "--out", str(tmp_path / "run"), *options]) == 0
    first, _ = benchmark(tmp_path / "run", formats=["torch"], threads=1)
    assert first.error is None
    assert first.latency_ms is not None
    assert (first.images_per_s, first.difference) == (None, None)


def test_images_for_int8_come_from_the_training_data(tmp_path: Path) -> None:
    """Not label maps: they lie beside the images."""
    assert benchmarks._training_images(None) is None
    assert benchmarks._training_images(tmp_path / "table.csv") is None
    for folder in ("annotations/train", "images/train", "images/val"):
        (tmp_path / "scenes" / folder).mkdir(parents=True)
    assert benchmarks._training_images(tmp_path / "scenes") == tmp_path / "scenes" / "images" / "train"
    (tmp_path / "folder" / "train").mkdir(parents=True)
    assert benchmarks._training_images(tmp_path / "folder") == tmp_path / "folder" / "train"


def test_bad_input_is_a_line(run: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "unknown format 'onx'; nearest: onnx" in fails(capsys, "benchmark", run, "--formats", "onx")
    assert "--calibrate FOLDER" in fails(capsys, "benchmark", run, "--formats", "int8")
    assert "threads must be at least 1" in fails(capsys, "benchmark", run, "--threads", "0")
    assert "--image-size must be at least 1" in fails(capsys, "benchmark", run, "--image-size", "0")
    assert "is an export" in fails(capsys, "benchmark", kept / "fp32.onnx")
    assert "no such weight file" in fails(capsys, "benchmark", tmp_path / "nothing", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    assert "cannot write" in fails(capsys, "benchmark", run, "--formats", "torch", "--out", tmp_path / "file")


@pytest.mark.heavy
def test_from_python(run: Path) -> None:
    (first, second) = benchmark(run, formats=["torch"], image_size=64, threads=1)
    assert isinstance(first, BenchmarkRow)
    assert convnext.benchmark is benchmark
    assert (first.precision, second.precision) == ("fp32", "bf16")
    assert first.metrics is None
