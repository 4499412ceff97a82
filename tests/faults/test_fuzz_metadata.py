"""Metadata of weights, changed at random, of every task: an answer, or one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import changed, ends_well, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from making import TASKS
from PIL import Image
from safetensors.torch import load_file, save_file
from sitecustomize import BYTE

import convnext
from convnext import cli
from convnext.weights import read_meta
from convnext.weights.files import META_KEY

SMALLEST = ["--model", BYTE, "--epochs", "1"]
Weights = tuple[dict[str, torch.Tensor], dict[str, Any]]


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Weights]:
    """Tensors and metadata of a run of a task, trained once."""

    @cache
    def of(task: str) -> Weights:
        make, options = TASKS[task]
        root = tmp_path_factory.mktemp(task)
        run = root / "run"
        arguments = ["train", task, str(make(root / "data")), "--out", str(run), *options, *SMALLEST]
        assert cli.main(arguments) == 0
        return load_file(run / "model.safetensors"), read_meta(run)

    return of


def answer(weights: Weights, path: Path) -> None:
    """Load weights with this metadata, and ask them about an image."""
    tensors, meta = weights
    save_file(tensors, path, {META_KEY: json.dumps(meta)})
    convnext.load(path, device="cpu")(Image.new("RGB", (40, 30)))


@pytest.mark.parametrize("task", TASKS)
def test_what_will_be_changed_is_taken(task: str, weights_of: Callable[[str], Weights], tmp_path: Path) -> None:
    answer(weights_of(task), tmp_path / "x.safetensors")


@pytest.mark.parametrize("task", TASKS)
@fuzzed
@given(data=st.data())
def test_metadata(
    task: str, data: st.DataObject, weights_of: Callable[[str], Weights], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tensors, meta = weights_of(task)
    other = tensors, data.draw(changed(meta))
    ends_well(lambda: answer(other, tmp_path_factory.getbasetemp() / f"{task}.safetensors"))
