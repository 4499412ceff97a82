import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convnext.config import TrainConfig
from convnext.errors import InputError
from convnext.parsing import parse, to_text
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.segment.config import SegmentConfig


def test_options_are_read_as_their_type() -> None:
    config = ClassifyConfig().override(
        {"epochs": "7", "base_lr": "1e-4", "ema": "none", "betas": "0.9,0.95", "compile": "true", "stem_patch": "2"}
    )
    assert (config.epochs, config.base_lr, config.ema, config.betas) == (7, 1e-4, None, (0.9, 0.95))
    assert config.compile is True
    assert config.stem_patch == 2


def test_values_of_python_are_those_of_the_command_line() -> None:
    given = {"init": Path("x.pt"), "betas": [0.9, 0.95], "epochs": np.int64(7), "base_lr": np.float32(0.5), "ema": None}
    config = ClassifyConfig().override(given)
    assert config == ClassifyConfig().override(
        {"init": "x.pt", "betas": "0.9,0.95", "epochs": "7", "base_lr": "0.5", "ema": "none"}
    )
    assert ClassifyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_words_for_nothing_are_those_that_an_option_defines() -> None:
    config = ClassifyConfig(compile=True, ema=0.9).override({"compile": "auto", "ema": "none", "init": "auto"})
    assert (config.compile, config.ema, config.init) == (None, None, "auto")  # which may be a file's name
    assert ClassifyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", ClassifyConfig().to_dict())
def test_a_value_as_text_is_read_as_it_was(name: str) -> None:
    config, kind = ClassifyConfig(milestones=(3, 5), compile=None), ClassifyConfig.types()[name]
    assert parse(name, to_text(getattr(config, name), kind), kind) == getattr(config, name)


def test_config_survives_json() -> None:
    config = ClassifyConfig(betas=(0.9, 0.95), crop_scale=(0.5, 1.0), init="x.pt")
    assert ClassifyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "many"}, "epochs takes a whole number, not 'many'"),
        ({"epochs": "0"}, "epochs must be at least 1, not 0"),
        ({"precision": "fp8"}, "precision takes auto, fp32, bf16, fp16, not 'fp8'"),
        ({"betas": "0.9,x"}, "betas takes 2 numbers, not '0.9,x'"),
        ({"milestones": "7"}, "milestones takes 2 whole numbers or none, not '7'"),
        ({"betas": "0.9"}, "betas takes 2 numbers, not '0.9'"),
        ({"compile": "perhaps"}, "compile takes true, false or auto, not 'perhaps'"),
        ({"compile": "none"}, "compile takes true, false or auto, not 'none'"),
        ({"hours": "auto"}, "hours takes a number or none, not 'auto'"),
        ({"patience": "auto"}, "patience takes a whole number or none, not 'auto'"),
        ({"ema": "1.5"}, "ema must lie between 0 and 1, not 1.5"),
        ({"drop_path": "1"}, "drop_path must lie in [0, 1), not 1.0"),
        ({"base_lr": "-1"}, "base_lr must not be negative, not -1.0"),
        ({"min_lr": "-1e-6"}, "min_lr must not be negative, not -1e-06"),
        ({"min_lr": "nan"}, "min_lr must be finite, not nan"),
        ({"warmup_steps": "-1"}, "warmup_steps must not be negative, not -1; none: --warmup-epochs"),
        ({"layer_decay": "0"}, "layer_decay must lie in (0, 1], not 0.0"),
        ({"layer_decay": "1.5"}, "layer_decay must lie in (0, 1], not 1.5"),
        ({"clip_grad": "0"}, "clip_grad must be positive, not 0.0; none: no clipping"),
        ({"clip_grad": "-1"}, "clip_grad must be positive, not -1.0; none: no clipping"),
        ({"clip_grad": "nan"}, "clip_grad must be finite, not nan; none: no clipping"),
        ({"muon_lr_scale": "0"}, "muon_lr_scale must be positive, not 0.0; none: AdamW for all"),
        ({"muon_lr_scale": "nan"}, "muon_lr_scale must be finite, not nan; none: AdamW for all"),
        ({"epoch": "3"}, "no option 'epoch'; nearest: epochs"),
        ({"multi_label": "true", "mixup": "0.2"}, "need one label an image"),
        ({"epochs": 1.5}, "epochs cannot be 1.5"),
        ({"epochs": None}, "epochs cannot be None"),
        ({"compile": None, "ema": True}, "ema cannot be True"),
    ],
)
def test_values_that_cannot_work_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        ClassifyConfig().override(options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (PretrainConfig(), "freeze_backbone", True),
        (PretrainConfig(), "patience", 3),
        (DepthConfig(), "stratify", True),
        (DepthConfig(), "in_chans", 1),
        (DetectConfig(), "stem_patch", 2),
        (SegmentConfig(), "in_chans", 1),
    ],
)
def test_options_that_have_one_value_in_a_task_take_no_other(config: TrainConfig, name: str, value: Any) -> None:
    """In Python, where they can be given, some were passed over without a word."""
    only = getattr(config, name)
    with pytest.raises(InputError, match=f"{name} of a {config.TASK} run is always {only}, not {value}"):
        config.override({name: value})
    assert config.override({name: only}) == config


def test_config_of_another_version_names_what_it_does_not_know() -> None:
    with pytest.raises(InputError, match="does not know: wings"):
        ClassifyConfig.from_dict({"wings": 2})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_scale", [None, 1.0]),
        ("crop_scale", [0.1]),
        ("epochs", "3"),
        ("epochs", 3.5),
        ("epochs", True),
        ("epochs", None),
        ("lr_decay", "fast"),
        ("multi_label", 1),
        ("model", 7),
        ("clip_grad", "x"),
    ],
)
def test_a_stored_value_is_of_its_fields_type(name: str, value: Any) -> None:
    stored = json.loads(json.dumps(ClassifyConfig().to_dict()))
    assert ClassifyConfig.from_dict(stored) == ClassifyConfig()
    with pytest.raises(ValueError, match=f"{name} cannot be"):
        ClassifyConfig.from_dict({**stored, name: value})


def test_whole_numbers_are_stored_fractions() -> None:
    assert ClassifyConfig.from_dict({**ClassifyConfig().to_dict(), "weight_decay": 0, "clip_grad": 1}).clip_grad == 1


def test_old_names_of_options_are_taken_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "convnext"):
        config = ClassifyConfig().override({"muon": "10", "keep": 3})
    assert (config.muon_lr_scale, config.keep_checkpoints) == (10.0, 3)
    assert ["muon_lr_scale" in line for line in caplog.messages] == [True, False]


def test_configs_of_older_runs_are_read() -> None:
    old = ClassifyConfig(muon_lr_scale=2.0, keep_checkpoints=5).to_dict()
    old |= {"muon": old.pop("muon_lr_scale"), "keep": old.pop("keep_checkpoints"), "decay": old.pop("lr_decay")}
    assert ClassifyConfig.from_dict(old) == ClassifyConfig(muon_lr_scale=2.0, keep_checkpoints=5)
