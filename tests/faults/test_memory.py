"""Memory that runs short is one line that says what takes less, not a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from making import COLOURS, FAST, fails
from safetensors.torch import load_file
from sitecustomize import BYTE
from vacuous import nonempty

from convnext import cli, create_model, load, save_weights
from convnext.inference.classifier import ImageClassifier
from convnext.train.trainer import Trainer

SHORT = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "numpy": MemoryError("Unable to allocate 8.00 GiB for an array"),
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_weights(create_model(BYTE, num_classes=3), path, meta={"classes": list(COLOURS)})
    return path


def test_a_training_says_so_and_can_be_resumed(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """From the last checkpoint: the step that failed may have moved some of the weights."""
    command = ["train", "classify", str(colours), *FAST, "--save-every", "2", "--out"]
    assert cli.main([*command, str(tmp_path / "whole")]) == 0
    update = Trainer.update

    def run_short(trainer: Trainer, *how: Any) -> None:
        update(trainer, *how)
        if trainer.step == 5:
            raise SHORT["gpu"]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", run_short)
        assert cli.main([*command, str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "out of memory at batch size 8" in said
    assert "a larger --accumulate" in said
    assert said.endswith("continue with --resume")
    assert cli.main(["train", "classify", str(colours), "--out", str(tmp_path / "run"), "--resume"]) == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(first[key], second[key]) for key in nonempty(first))


@pytest.mark.parametrize("kind", SHORT)
def test_evaluate_and_predict_say_what_takes_less(
    kind: str, weights: Path, colours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run_short(*_: object) -> None:
        raise SHORT[kind]

    monkeypatch.setattr(ImageClassifier, "scores", run_short)
    monkeypatch.setattr(type(load(weights).model), "forward", run_short)
    said = fails(capsys, "evaluate", weights, colours, "--workers", "0", "--batch-size", "3")
    assert said == "convnext: out of memory at batch size 3; a smaller --batch-size or --image-size takes less"
    said = fails(capsys, "predict", weights, colours / "val" / "red" / "0.png")
    assert said == "convnext: out of memory; a smaller --image-size takes less"


def test_other_errors_are_not_taken_for_it(weights: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of the program's memory layout")

    monkeypatch.setattr(ImageClassifier, "scores", fail)
    with pytest.raises(RuntimeError, match="a fault of"):
        cli.main(["predict", str(weights), str(colours / "val" / "red" / "0.png")])
