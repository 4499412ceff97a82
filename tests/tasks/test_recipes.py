"""Every recipe is what was published, and takes a real step."""

import inspect
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext import cli, list_models
from convnext.data.image_set import read_images, read_train_val
from convnext.errors import InputError
from convnext.runs.directory import Run
from convnext.tasks.build import build_task
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.task import Classification
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.pretrain.fcmae.task import Pretraining
from convnext.tasks.recipes import RECIPES, build_config, models_of, task_of_recipe
from convnext.tasks.registry import find_task
from convnext.tasks.segment.config import SegmentConfig
from convnext.train.trainer import Trainer

COMMON = {  # REFERENCE section 4, for all
    "betas": (0.9, 0.999),
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "random_erasing": 0.25,
    "min_lr": 1e-6,
    "hflip": 0.5,
    "crop_scale": (0.08, 1.0),
    "muon_lr_scale": None,
    "clip_grad": None,
}
FIELDS = "base_lr weight_decay layer_decay layer_groups epochs warmup_epochs label_smoothing mixup cutmix drop_path"
V2_1K = {
    "atto": (2e-4, 0.3, 0.9, "single", 600, 0, 0.2, 0, 0, 0.1),
    "femto": (2e-4, 0.05, 0.9, "single", 600, 0, 0.2, 0.3, 0.3, 0),
    "pico": (2e-4, 0.3, 0.9, "single", 600, 0, 0.2, 0.3, 0.3, 0),
    "nano": (2e-4, 0.3, 0.9, "single", 600, 0, 0.2, 0.5, 0.5, 0.1),
    "tiny": (8e-4, 0.05, 0.9, "single", 300, 40, 0.1, 0.8, 1, 0.2),
    "base": (6.25e-4, 0.05, 0.6, "group", 100, 20, 0.1, 0.8, 1, 0.1),
    "large": (6.25e-4, 0.05, 0.6, "group", 100, 20, 0.1, 0.8, 1, 0.2),
    "huge": (1.25e-3, 0.05, 0.75, "group", 50, 10, 0.1, 0.8, 1, 0.3),
}
V2_22K = {
    "nano": (2.5e-4, 0.05, 0.9, "single", 90, 5, 0.1, 0.8, 1, 0),
    "tiny": (2.5e-4, 0.05, 0.9, "single", 90, 5, 0.1, 0.8, 1, 0),
    "base": (2.5e-4, 0.05, 0.8, "group", 90, 5, 0.1, 0.8, 1, 0.1),
    "large": (2.5e-4, 0.05, 0.8, "group", 90, 5, 0.1, 0.8, 1, 0.1),
    "huge": (2.5e-4, 0.05, 0.8, "group", 90, 5, 0.1, 0.8, 1, 0.3),
}
V2_FROM_22K = {
    "nano": (2.5e-5, 1e-8, 0.9, "single", 90, 0, 0.1, 0, 0, 0.1),
    "tiny": (2.5e-5, 1e-8, 0.9, "single", 90, 0, 0.1, 0, 0, 0.1),
    "base": (2.5e-5, 1e-8, 0.8, "group", 30, 0, 0.1, 0, 0, 0.2),
    "large": (2.5e-5, 1e-8, 0.8, "group", 30, 0, 0.1, 0, 0, 0.3),
    "huge": (2.5e-5, 1e-8, 0.85, "group", 30, 0, 0.1, 0, 0, 0.5),
}
# V1's rates are published for the whole batch: 4e-3 at 4096 is 2.5e-4 at 256, 5e-5 at 512 is 2.5e-5.
V1_SCRATCH = {
    size: (2.5e-4, 0.05, 1.0, "single", 300, 20, 0.1, 0.8, 1, rate)
    for size, rate in {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5}.items()
}
V1_22K = {
    size: (2.5e-4, 0.05, 1.0, "single", 90, 5, 0.1, 0.8, 1, rate)
    for size, rate in {"base": 0.1, "large": 0.1, "xlarge": 0.2}.items()
}
V1_FROM_22K = {
    size: (2.5e-5, 1e-8, 0.8, "group", 30, 0, 0.1, 0, 0, rate) for size, rate in {"base": 0.2, "large": 0.3}.items()
}
V1_384 = {
    size: (2.5e-5, 1e-8, 0.7, "group", 30, 0, 0.1, 0, 0, rate) for size, rate in {"base": 0.8, "large": 0.95}.items()
}
FAMILIES = [
    ("finetune_v2", "convnextv2", V2_1K, {"batch_size": 1024, "ema": 0.9999, "head_init_scale": 0.001}),
    ("intermediate_22k_v2", "convnextv2", V2_22K, {"batch_size": 4096, "ema": None, "head_init_scale": 0.001}),
    ("finetune_22k_v2", "convnextv2", V2_FROM_22K, {"batch_size": 512, "head_init_scale": 0.001}),
    ("scratch_v1", "convnext", V1_SCRATCH, {"batch_size": 4096, "ema": 0.9999, "head_init_scale": 1.0}),
    ("scratch_22k_v1", "convnext", V1_22K, {"batch_size": 4096, "ema": None, "head_init_scale": 1.0}),
    ("finetune_22k_v1", "convnext", V1_FROM_22K, {"batch_size": 512, "head_init_scale": 0.001}),
    ("finetune_384_v1", "convnext", V1_384, {"batch_size": 512, "head_init_scale": 0.001, "image_size": 384}),
]


@pytest.mark.parametrize(
    ("recipe", "model", "values", "others"),
    [
        (recipe, f"{family}_{size}", dict(zip(FIELDS.split(), values, strict=True)), others)
        for recipe, family, table, others in FAMILIES
        for size, values in table.items()
    ],
)
def test_every_value_is_the_published_one(recipe, model, values, others):
    config = build_config(recipe, model, ClassifyConfig)
    expected = {**COMMON, "image_size": 224, "layer_scale_init": 1e-6, "crop": None, **values, **others}
    if recipe == "finetune_22k_v2":
        huge = model == "convnextv2_huge"
        expected |= {"ema": None if huge else 0.9999, "image_size": 384 if huge else 224}
    assert {name: getattr(config, name) for name in expected} == expected
    assert (config.recipe, config.model) == (recipe, model)


@pytest.mark.parametrize("model", list_models())
def test_pre_training_is_the_published_one_for_all_sizes(model):
    config = build_config("fcmae", model, PretrainConfig)
    expected = {
        "epochs": 1600, "warmup_epochs": 40, "batch_size": 4096, "base_lr": 1.5e-4, "betas": (0.9, 0.95),
        "weight_decay": 0.05, "mask_ratio": 0.6, "patch_size": 32, "crop_scale": (0.2, 1.0), "hflip": 0.5,
        "decoder_dim": 512, "decoder_depth": 1, "norm_pix_loss": True, "drop_path": 0.0, "ema": None,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected


def test_models_of_a_recipe():
    assert models_of("finetune_v2") == [
        name for name in list_models() if name.startswith("convnextv2") and name != "convnextv2_small"
    ]
    assert models_of("finetune_22k_v2") == [f"convnextv2_{size}" for size in V2_FROM_22K]
    assert models_of("finetune_384_v1") == ["convnext_base", "convnext_large"]
    assert models_of("fcmae") == models_of("small_data") == list_models()


def test_the_recipe_that_is_chosen_is_said(colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = "recipe small_data (24 training images, initial weights random or trained without labels)"
    for recipe in (None, "small_data"):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="convnext"):
            build_task(find_task("classify"), str(colours), tmp_path / "run", {}, recipe, False)
        assert (said in caplog.text) == (recipe is None)


def test_a_model_that_was_not_asked_for_is_said(
    colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for given in ({}, {"model": "convnextv2_atto"}):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="convnext"):
            build_task(find_task("classify"), str(colours), tmp_path / "run", given, None, False)
        assert ("choose another with --model" in caplog.text) == (not given)


def test_default_recipe_suits_the_data():
    assert find_task("classify").default_recipe("convnextv2_tiny", images=3_000, trained=False) == "small_data"
    assert find_task("classify").default_recipe("convnextv2_tiny", images=3_000, trained=True) == "small_data_finetune"
    assert find_task("classify").default_recipe("convnextv2_tiny", images=10**6, trained=True) == "finetune_v2"
    assert find_task("classify").default_recipe("convnext_tiny", images=10**6, trained=False) == "scratch_v1"
    assert find_task("pretrain").default_recipe("convnextv2_tiny", trained=False, images=3_000) == "fcmae_small_data"
    assert find_task("pretrain").default_recipe("convnextv2_tiny", trained=False, images=10**6) == "fcmae"


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("smalldata", "convnextv2_atto", "unknown recipe 'smalldata'; nearest: small_data"),
        ("finetune_v2", "convnext_tiny", "is for convnextv2_atto, "),
        ("scratch_v1", "convnextv2_tiny", "is for convnext_tiny, "),
        ("finetune_22k_v2", "convnextv2_atto", "is for convnextv2_nano, "),
        ("fcmae", "convnextv2_atto", "recipe fcmae is for `convnext pretrain`; here: small_data, "),
        ("small_data", "convnextv2_ato", "unknown model 'convnextv2_ato'"),
    ],
)
def test_recipes_that_do_not_suit_are_refused(name, model, message):
    with pytest.raises(InputError) as error:
        build_config(name, model, ClassifyConfig)
    assert message in str(error.value)


def models_to_step() -> list[Any]:
    """Each recipe with its smallest model and its largest up to 30 million parameters, which is heavy; finetune_v2,
    whose sizes differ most, with all of those."""
    pairs = []
    elsewhere = (DepthConfig, DetectConfig, SegmentConfig)  # in tests/tasks
    for recipe in (name for name in RECIPES if task_of_recipe(name).config not in elsewhere):
        small = [m for m in models_of(recipe) if m.split("_")[1] in ("atto", "femto", "pico", "nano", "tiny")]
        first, *others = dict.fromkeys(small if recipe == "finetune_v2" else (models_of(recipe)[0], *small[-1:]))
        pairs.append((recipe, first))
        pairs += [pytest.param(recipe, model, marks=pytest.mark.heavy) for model in others]
    return pairs


@pytest.mark.parametrize(("recipe", "model"), models_to_step())
def test_recipe_takes_a_step(recipe, model, colours, tmp_path):
    """At small size."""
    kind = PretrainConfig if recipe.startswith("fcmae") else ClassifyConfig
    size = {} if recipe.endswith("digits") else {"image_size": 32 if kind is ClassifyConfig else 64}
    config = build_config(recipe, model, kind).override(
        {"data": str(colours), "batch_size": 4, "workers": 0, "precision": "fp32", **size}
    )
    task = (
        Classification(config, *read_train_val(str(colours)))
        if isinstance(config, ClassifyConfig)
        else Pretraining(config, read_images(colours))
    )
    trainer = Trainer(task, Run.create(tmp_path / "run", config, overwrite=False))
    trainer.length.step = len(trainer.loader)  # past the first epoch, where a warm-up from 0 would change nothing
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.model.train()
    loss = trainer.train_step(next(iter(trainer.loader)))
    assert math.isfinite(loss)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_opens_with_command_hardware_and_result(recipe):
    text = inspect.cleandoc(RECIPES[recipe].__doc__)
    assert all(f"\n{word}" in text for word in ("Command:  convnext ", "Hardware: ", "Result:   "))


def test_recipes_are_listed_and_printed(capsys):
    assert cli.main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in RECIPES)
    arguments = ["recipes", "finetune_22k_v2", "--model", "convnextv2_base", "--set", "image_size=384"]
    assert cli.main([*arguments, "--json"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert ClassifyConfig.from_dict(config).image_size == 384
    assert (config["recipe"], config["drop_path"]) == ("finetune_22k_v2", 0.2)
    assert cli.main(["recipes", "fcmae"]) == 0
    assert "Hardware: published on 8 machines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune_v3"], "unknown recipe 'finetune_v3'; nearest: finetune_v2"),
        (["finetune_v2", "--set", "epoch=3"], "no option 'epoch'; nearest: epochs"),
        (["finetune_v2", "--set", "epochs=many"], "epochs takes a whole number, not 'many'"),
        (["finetune_v2", "--set", "epochs"], "--set takes KEY=VALUE, not 'epochs'"),
        (["finetune_v2", "--model", "convnext_tiny"], "recipe finetune_v2 is for "),
    ],
)
def test_bad_recipes_get_one_line(arguments, message, capsys):
    assert cli.main(["recipes", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
