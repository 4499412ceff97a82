"""What the data were that weights were trained on, as the weights say, or the run that they lie in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convnext.data.splits import HoldOut, Origin
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.origin import origin_of_model
from convnext.weights.files import META_KEY

UNSAID = "does not say what it was trained on: undivided data are taken for it"


def weights(folder: Path, **meta: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors", metadata={META_KEY: json.dumps(meta)})
    return folder / "model.safetensors"


def test_weights_say_it_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = Origin(HoldOut(0.3), {"a": "b"}, ("c",))
    place = weights(tmp_path, task="classify", origin=own.to_dict())
    (tmp_path / "config.json").write_text(json.dumps({"val_fraction": 0.5}))
    assert origin_of_model(place, ClassifyConfig) == own
    assert origin_of_model(place, DetectConfig) is None
    assert not caplog.text


@pytest.mark.parametrize("place", [".", "checkpoints/3"])
def test_of_weights_of_old_the_run_says_it(place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By a rule that versions before them had."""
    found = weights(tmp_path / ("checkpoints" if place != "." else "."), task="detect")
    (tmp_path / "config.json").write_text(json.dumps({"val_fraction": 0.5}))
    assert origin_of_model(found, DetectConfig) == Origin(HoldOut(0.5, 0))
    assert not caplog.text


def test_without_a_run_the_usual_share_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert origin_of_model(weights(tmp_path, task="classify"), ClassifyConfig) == Origin(HoldOut(0.2, 1))
    assert UNSAID in caplog.text


def test_weights_of_others_have_no_origin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert origin_of_model(tmp_path / "x.safetensors", ClassifyConfig) is None
    assert not caplog.text
