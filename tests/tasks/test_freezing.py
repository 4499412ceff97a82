"""`--freeze-backbone`: what moves, what is kept of it, and that a run goes on as if it had not been stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from making import FAST, FAST_DETECT, FAST_SEGMENT, make_depths, make_folder, make_objects, make_scenes
from safetensors.torch import load_file
from sitecustomize import BYTE
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.nn.block import DropPath
from convnext.train.trainer import Trainer

TASKS = {
    "classify": (make_folder, FAST),
    "detect": (make_objects, FAST_DETECT),
    "segment": (make_scenes, [*FAST_SEGMENT, "--ignore-index", "9"]),
    "depth": (make_depths, FAST_SEGMENT),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """First weights, without a head."""
    path = tmp_path_factory.mktemp("weights") / "headless.safetensors"
    convnext.save_weights(convnext.create_model(BYTE, num_classes=0), path, meta={"task": "embed"})
    return path


@pytest.fixture(scope="module", params=TASKS)
def command(request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A training of each task with a frozen backbone; its run goes behind it."""
    make, options = TASKS[request.param]
    data = make(tmp_path_factory.mktemp("data") / "data")
    more = ["--init", str(weights), "--freeze-backbone", "--drop-path", "0.5", "--weight-decay", "0.3", "--ema", "0.5"]
    return ["train", request.param, str(data), *options, *more, "--out"]


def backbone_of(state: dict[str, Any]) -> dict[str, Any]:
    """The tensors of stem and stages."""
    inner = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    return {name: t for name, t in inner.items() if name.startswith(("stages.", "downsample_layers."))}


def test_the_backbone_keeps_its_bits_and_all_above_trains(command: list[str], weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert cli.main([*command, str(out)]) == 0
    state, first = load_file(out / "model.safetensors"), load_file(weights)
    frozen = backbone_of(state)
    assert frozen.keys() == backbone_of(first).keys()
    assert all(torch.equal(tensor, first[name]) for name, tensor in nonempty(frozen.items()))
    assert json.loads((out / "config.json").read_text())["freeze_backbone"] is True
    assert "the backbone frozen" in " ".join((out / "README.md").read_text().split())

    last = sorted((out / "checkpoints").glob("*/"))[-1]
    kept = [name for file in last.glob("*.safetensors") for name in load_file(file)]
    moments = {name.removeprefix("optimizer.") for name in kept if name.startswith("optimizer.")}
    assert moments
    assert not backbone_of(dict.fromkeys(moments))


def test_no_graph_is_kept_of_the_backbone(command: list[str], tmp_path: Path, monkeypatch) -> None:
    step, seen = Trainer.train_step, []

    def watched(self: Trainer, batch: Any) -> float:
        block = next(module for name, module in self.model.named_modules() if name.endswith("stages.2.1"))
        with block.register_forward_hook(lambda module, inputs, out: seen.append(out.requires_grad)):
            loss = step(self, batch)
        frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        assert backbone_of(dict.fromkeys(frozen)).keys() == backbone_of(self.model.state_dict()).keys()
        assert all(module.rate == 0 for module in self.model.modules() if isinstance(module, DropPath))
        return loss

    monkeypatch.setattr(Trainer, "train_step", watched)
    assert cli.main([*command, str(tmp_path / "run"), "--epochs", "1"]) == 0
    assert seen
    assert not any(seen)


def test_a_stopped_run_goes_on_as_if_it_had_not(command: list[str], tmp_path: Path, monkeypatch) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert cli.main([*command, str(whole)]) == 0
    step = Trainer.train_step

    def stop(self: Trainer, batch: object) -> float:
        loss = step(self, batch)
        if self.step == 1:
            self.stop.received = 15
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stop)
        assert cli.main([*command, str(again)]) == 128 + 15
    assert cli.main([*command, str(again), "--resume"]) == 0
    one, other = (load_file(run / "model.safetensors") for run in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in nonempty(one))


def test_random_weights_are_said_to_be_frozen(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = ["train", "classify", str(folder), *FAST, "--epochs", "1", "--freeze-backbone"]
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "the frozen backbone has random weights" in caplog.text
