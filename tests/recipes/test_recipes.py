"""Every recipe is what was published, and takes a real step."""

import pytest
import torch

from convnext import list_models
from convnext.data.samples import read_train_val
from convnext.errors import InputError
from convnext.recipes import RECIPES, classify_recipe
from convnext.run import Run
from convnext.tasks.classify import Classification
from convnext.train.trainer import Trainer

V2 = [name for name in list_models() if name.startswith("convnextv2")]
V1 = [name for name in list_models() if not name.startswith("convnextv2")]


@pytest.mark.parametrize(
    ("size", "values"),
    [  # REFERENCE: base LR, decay, layer decay, groups, epochs, warm-up, smoothing, mixup, cutmix, drop path
        ("atto", (2e-4, 0.3, 0.9, "single", 600, 0, 0.2, 0, 0, 0.1)),
        ("femto", (2e-4, 0.05, 0.9, "single", 600, 0, 0.2, 0.3, 0.3, 0)),
        ("pico", (2e-4, 0.3, 0.9, "single", 600, 0, 0.2, 0.3, 0.3, 0)),
        ("nano", (2e-4, 0.3, 0.9, "single", 600, 0, 0.2, 0.5, 0.5, 0.1)),
        ("tiny", (8e-4, 0.05, 0.9, "single", 300, 40, 0.1, 0.8, 1, 0.2)),
        ("base", (6.25e-4, 0.05, 0.6, "group", 100, 20, 0.1, 0.8, 1, 0.1)),
        ("large", (6.25e-4, 0.05, 0.6, "group", 100, 20, 0.1, 0.8, 1, 0.2)),
        ("huge", (1.25e-3, 0.05, 0.75, "group", 50, 10, 0.1, 0.8, 1, 0.3)),
    ],
)
def test_v2_fine_tuning_is_the_published_one(size: str, values: tuple) -> None:
    c = classify_recipe("finetune_v2", f"convnextv2_{size}", images=10**6, from_weights=True)
    assert values == (
        c.base_lr, c.weight_decay, c.layer_decay, c.layer_groups, c.epochs, c.warmup_epochs,
        c.label_smoothing, c.mixup, c.cutmix, c.drop_path,
    )  # fmt: skip
    assert (c.batch_size, c.betas, c.ema, c.head_init_scale) == (1024, (0.9, 0.999), 0.9999, 0.001)
    assert (c.rand_augment, c.random_erasing, c.image_size) == ("rand-m9-mstd0.5-inc1", 0.25, 224)


@pytest.mark.parametrize(("size", "drop_path"), [("tiny", 0.1), ("small", 0.4), ("base", 0.5), ("large", 0.5)])
def test_v1_from_scratch_is_the_published_one(size: str, drop_path: float) -> None:
    c = classify_recipe("scratch_v1", f"convnext_{size}", images=10**6, from_weights=False)
    assert (c.epochs, c.batch_size, c.weight_decay, c.warmup_epochs) == (300, 4096, 0.05, 20)
    assert c.base_lr * c.batch_size / 256 == pytest.approx(4e-3)
    assert (c.mixup, c.cutmix, c.label_smoothing, c.layer_scale_init, c.ema) == (0.8, 1.0, 0.1, 1e-6, 0.9999)
    assert c.drop_path == drop_path


def test_default_recipe_suits_the_data() -> None:
    assert classify_recipe(None, "convnextv2_tiny", images=3_000, from_weights=False).recipe == "small_data"
    assert classify_recipe(None, "convnextv2_tiny", images=10**6, from_weights=True).recipe == "finetune_v2"
    assert classify_recipe(None, "convnext_tiny", images=10**6, from_weights=False).recipe == "scratch_v1"


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("smalldata", "convnextv2_atto", "unknown recipe 'smalldata'; nearest: small_data"),
        ("finetune_v2", "convnext_tiny", "for V2 models"),
        ("scratch_v1", "convnextv2_tiny", "for V1 models"),
    ],
)
def test_recipes_that_do_not_suit_are_refused(name: str, model: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        classify_recipe(name, model, images=100, from_weights=False)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "model"),
    [*(("finetune_v2", m) for m in V2[:5]), ("scratch_v1", V1[0]), ("small_data", V2[0]), ("digits", V2[0])],
)
def test_recipe_takes_a_step(recipe: str, model: str, colours, tmp_path) -> None:
    """At small size; base and larger differ from tiny in numbers that the tables above hold."""
    assert recipe in RECIPES
    config = classify_recipe(recipe, model, images=24, from_weights=False).override(
        {"data": str(colours), "image_size": 32, "batch_size": 4, "workers": 0, "precision": "fp32"}
    )
    task = Classification(config, *read_train_val(str(colours)))
    trainer = Trainer(task, Run.create(tmp_path / "run", config.to_dict(), overwrite=False))
    trainer.step = len(trainer.loader)  # past the first epoch, where a warm-up from 0 would change nothing
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.model.train()
    loss = trainer.train_step(next(iter(trainer.loader)))
    assert torch.isfinite(loss)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
