"""Weights as other programs write them: under prefixes, in containers, beside numbers; and files that hold no model."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import FAST, FAST_DETECT, FAST_SEGMENT, fails, make_folder, make_objects, make_scenes
from safetensors.torch import load_file, save_file
from vacuous import nonempty

import convnext
from convnext import InputError, WeightsError, cli
from convnext.data.images.preprocessing import Preprocessing
from convnext.weights import load_weights, read_state
from convnext.weights.files import META_KEY
from convnext.weights.layouts import from_official


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return convnext.create_model("convnextv2_atto", num_classes=3).state_dict()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "model.", "net.backbone.", "backbone.", "a.b.c."])
@pytest.mark.parametrize("layout", ["official", "timm"])
def test_prefixes_are_found(state: dict, prefix: str, layout: str, tmp_path: Path) -> None:
    foreign = {prefix + name: tensor for name, tensor in from_official(state, layout).items()}
    torch.save({"state_dict": foreign}, tmp_path / "x.pt")
    found, _ = read_state(tmp_path / "x.pt")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in nonempty(state))


def test_what_lies_beside_a_backbone_is_said(state: dict, tmp_path: Path) -> None:
    """A detector of another library's."""
    beside = {"neck.conv.weight": torch.zeros(3), "bbox_head.weight": torch.zeros(2)}
    backbone = {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith(("head.", "norm."))}
    torch.save(backbone | beside, tmp_path / "x.pt")
    report = load_weights(convnext.create_model("convnextv2_atto", num_classes=3), tmp_path / "x.pt")
    assert any("left out 2 tensors that are not the network's: bbox_head, neck" in note for note in report.notes)


@pytest.mark.parametrize(
    "wrap", [lambda s: {"module": s}, lambda s: {"model": {"state_dict": s}}, lambda s: {"model_ema": s}]
)
def test_containers_are_opened(state: dict, wrap: Any, tmp_path: Path) -> None:
    torch.save({**wrap(state), "arch": "convnextv2_atto", "is_pretrain": False}, tmp_path / "x.pt")
    assert read_state(tmp_path / "x.pt")[0].keys() == state.keys()


@pytest.mark.parametrize("number", [np.float64(91.5), np.float32(1), np.int64(3), np.bool_(True)], ids=str)
def test_a_number_beside_weights_is_no_attack(state: dict, number: Any, tmp_path: Path) -> None:
    torch.save({"model": state, "best_acc": number}, tmp_path / "x.pt")
    assert read_state(tmp_path / "x.pt")[0].keys() == state.keys()


def test_a_folder_with_a_bin_file_reads_its_config(state: dict, tmp_path: Path) -> None:
    torch.save(from_official(state, "hf"), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "ant", "1": "bee", "2": "cat"}}))
    assert convnext.load(tmp_path).classes == ["ant", "bee", "cat"]


def test_a_folder_of_transformers_is_evaluated(
    state: dict, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Its config.json was taken for a run's."""
    save_file(from_official(state, "hf"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "blue", "1": "green", "2": "red"}}))
    figures = []
    for source in (tmp_path, tmp_path / "model.safetensors"):
        capsys.readouterr()
        assert cli.main(["evaluate", str(source), str(colours), "--json", "--workers", "0"]) == 0
        figures.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert figures[0] == figures[1]


META = {"task": "classify", "multi_label": False, "classes": ["a", "b", "c"]}


@pytest.mark.parametrize(
    "meta",
    [
        {"classes": ["a", "b"]},
        {"classes": 7},
        {"classes": [["a"], "b", "c"]},
        {"preprocessing": {"image_size": "x"}},
        {"preprocessing": 3},
        {"task": "detect"},
        {"task": "segment", "model": "convnextv2_atto"},
        {"descriptions": [1]},
    ],
    ids=str,
)
def test_metadata_of_strangers_end_in_a_line(
    state: dict, meta: dict, tmp_path: Path, run: Path, capsys: pytest.CaptureFixture, colours: Path
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(state, path, {"format": "pt", META_KEY: json.dumps(META | meta)})
    with pytest.raises(WeightsError):
        convnext.load(path)
    image = next((colours / "val" / "red").iterdir())
    assert str(path) in fails(capsys, "predict", path, image)


@pytest.mark.parametrize("spoil", ["scalar head", "no bias", "complex", "gap", "extra"])
def test_tensors_of_strangers_end_in_a_line(state: dict, spoil: str, tmp_path: Path) -> None:
    changed = dict(state)
    if spoil == "scalar head":
        changed["head.weight"] = torch.tensor(1.0)
    elif spoil == "no bias":
        del changed["head.bias"]
    elif spoil == "complex":
        changed["norm.weight"] = changed["norm.weight"].to(torch.complex64)
    elif spoil == "gap":
        changed = {name: tensor for name, tensor in changed.items() if not name.startswith("stages.2.3.")}
    else:
        changed["stages.0.0.more"] = torch.zeros(1)
    torch.save(changed, tmp_path / "x.pt")
    with pytest.raises(WeightsError):
        convnext.load(tmp_path / "x.pt")


DENSE = {
    "detect": (make_objects, FAST_DETECT),
    "segment": (make_scenes, [*FAST_SEGMENT, "--ignore-index", "9"]),
}


@pytest.mark.parametrize("task", DENSE)
def test_a_run_of_a_dense_task_starts_others(task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its own task takes neck and heads too; a classifier takes the backbone; and what is left is said."""
    make, options = DENSE[task]
    data, first = make(tmp_path / "data"), tmp_path / "first"
    command = ["train", task, str(data), *options, "--epochs", "1"]
    assert cli.main([*command, "--out", str(first)]) == 0
    caplog.clear()
    still = ["--base-lr", "0", "--min-lr", "0", "--weight-decay", "0", "--muon-lr-scale", "none", "--drop-path", "0"]
    assert cli.main([*command, "--init", str(first), "--out", str(tmp_path / "again"), *still]) == 0
    assert "tensors of neck and heads fit and are taken" in caplog.text
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "again"))
    assert before.keys() == after.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name]) and "running" not in name]
    assert [name for name in moved if "num_batches" not in name] == []
    caplog.clear()
    folder = make_folder(tmp_path / "colours")
    arguments = ["train", "classify", str(folder), "--init", str(first), "--out", str(tmp_path / "classifier"), *FAST]
    assert cli.main([*arguments, "--epochs", "1"]) == 0
    assert "tensors that are not the network's" in caplog.text


def test_files_made_to_cost_are_a_line(state: dict, tmp_path: Path) -> None:
    """A compressed archive, numbers that are one number, more tensors than a network has, a pipe, a huge image size."""
    torch.save(state, tmp_path / "plain.pth")
    packed = zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    torch.save({**state, "head.weight": torch.zeros(1).expand(10**8, 320)}, tmp_path / "expanded.pth")
    save_file({str(number): torch.zeros(0) for number in range(20_001)}, tmp_path / "many.safetensors")
    os.mkfifo(tmp_path / "pipe.pth")
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name, words in {
        "packed.pth": "compressed archive",
        "expanded.pth": "the file holds fewer",
        "many.safetensors": "20001 tensors",
        "pipe.pth": "is not a file",
        "pipe.safetensors": "is not a file",
    }.items():
        with pytest.raises(WeightsError, match=words):
            convnext.load(tmp_path / name)
    with pytest.raises(InputError, match="at most 4096"):
        Preprocessing.standard(20_000)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_diverged_are_a_line(state: dict, value: float, tmp_path: Path) -> None:
    """Every answer would be nan."""
    broken = {key: tensor.clone() for key, tensor in state.items()}
    broken["norm.weight"][3] = value
    save_file(broken, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"'norm.weight' holds numbers that are not finite"):
        convnext.load(tmp_path / "w.safetensors")
