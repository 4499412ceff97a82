"""How a process computes on a GPU, by the flags that PyTorch has on every machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from making import COLOURS
from sitecustomize import BYTE

import convnext
from convnext import cli, create_model, save_weights
from convnext.runtime.device import prepare


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small classifier's; cuDNN's convolutions round fp32 to TF32, as PyTorch begins."""
    path = tmp_path / "model.safetensors"
    save_weights(create_model(BYTE, num_classes=3), path, meta={"classes": list(COLOURS)})
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    return path


def test_trainings_compute_fp32_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    prepare(torch.device("cpu"), deterministic=False)
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("command", ["evaluate", "predict", "embed", "analyze"])
def test_commands_compute_fp32_in_fp32(command: str, weights: Path, colours: Path, tmp_path: Path) -> None:
    """Figures and answers would else be others than a CPU's, and with them those that a run is measured by."""
    image = str(colours / "val" / "red" / "0.png")
    words = {
        "evaluate": [str(weights), str(colours), "--workers", "0"],
        "predict": [str(weights), image],
        "embed": [str(weights), image, "--out", str(tmp_path / "x.npy"), "--workers", "0"],
        "analyze": ["activations", str(weights), image, "--out", str(tmp_path / "page")],
    }
    assert cli.main([command, *words[command]]) == 0
    assert not torch.backends.cudnn.allow_tf32


def test_a_predictor_leaves_the_setting_to_the_program_that_it_is_part_of(weights: Path, colours: Path) -> None:
    convnext.load(weights)(colours / "val" / "red" / "0.png")
    assert torch.backends.cudnn.allow_tf32
