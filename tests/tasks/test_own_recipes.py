"""Values of the recipes of this project, which the figures of `docs/results.md` and of their docstrings were had with.

The published recipes' are in `test_recipes.py` and `tests/test_published.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from convnext.errors import InputError
from convnext.tasks.recipes import RECIPES, build_config, given_config, models_of, task_of_recipe
from convnext.tasks.segment.recipes import upernet_640_v1

SMALL_CLASSES = dict(
    batch_size=32, warmup_epochs=0.5, rand_augment=None, random_erasing=0.0, label_smoothing=0.1, ema=0.98,
    weight_decay=0.05, min_lr=1e-6, hflip=0.5, image_size=224, drop_path=0.0,
)  # fmt: skip
DIGITS = dict(
    in_chans=1, stem_patch=1, image_size=24, crop_scale=(0.7, 1.0), hflip=0.0, batch_size=64, warmup_epochs=1.0,
    clip_grad=1.0, workers=0,
)  # fmt: skip
SMALL_FCMAE = dict(min_lr=0.0, weight_decay=0.05, betas=(0.9, 0.95), batch_size=64, base_lr=4e-3, clip_grad=1.0)
SMALL_OBJECTS = dict(
    image_size=320, epochs=30, batch_size=4, warmup_epochs=0.5, clip_grad=5.0, eval_every=5, cascade=True,
    class_agnostic=True, fpn_dim=64, linear_dim=256, mask_convs=2, anchor_scale=4.0, rois_per_image=128,
    scale_jitter=(0.8, 1.6), test_size=448, max_side=1333, hflip=0.5, vflip=0.5, colour=0.2, box_convs=0,
    head_norm="none", soft_nms=False, masks=True, negatives=False, milestones=None,
)  # fmt: skip
SMALL_MAPS = dict(
    image_size=256, epochs=30, batch_size=8, warmup_epochs=0.5, clip_grad=5.0, eval_every=5, fpn_dim=64, aux_dim=64,
    aux_weight=0.4, hflip=0.5, photometric=True,
)  # fmt: skip
SMALL_SCENES = dict(
    **SMALL_MAPS, dropout=0.1, short_side=320, max_side=1280, scale=(0.6, 1.6), class_weights="root", test_size=320,
    window=None, loss="cross_entropy", dice=0.0, most_of_a_class=0.75,
)  # fmt: skip
SMALL_DEPTHS = dict(**SMALL_MAPS, dropout=0.0, short_side=256, max_side=1024, scale=(1.0, 1.5), test_size=256)
PLAIN = dict(muon_lr_scale=None, layer_decay=0.8)  # from weights that learnt from labels

OWN: dict[str, dict[str, Any]] = {
    "small_data": dict(
        **SMALL_CLASSES, epochs=50, base_lr=1.12e-2, muon_lr_scale=10.0, depthwise_init="smooth",
        progressive_resizing=0.5, crop_scale=(0.3, 1.0), layer_decay=1.0, clip_grad=None, mixup=0.2, cutmix=1.0,
        mix_after=15.0,
    ),
    "small_data_finetune": dict(
        **SMALL_CLASSES, **PLAIN, epochs=20, base_lr=4e-3, clip_grad=1.0, crop_scale=(0.5, 1.0),
        progressive_resizing=None, mixup=0.0, cutmix=0.0,
    ),
    "digits": dict(**DIGITS, crop=1.0, epochs=8, base_lr=6e-3, ema=0.99, rand_augment=None, random_erasing=0.0),
    "fcmae_small_data": dict(
        **SMALL_FCMAE, epochs=100, warmup_epochs=5.0, muon_lr_scale=10.0, depthwise_init="smooth", mask_ratio=0.6,
        decoder_dim=512, crop_scale=(0.2, 1.0),
    ),
    "fcmae_digits": {**SMALL_FCMAE, **DIGITS, "patch_size": 8, "epochs": 10, "muon_lr_scale": None},
    "detect_small_data": dict(**SMALL_OBJECTS, base_lr=6.4e-2, muon_lr_scale=10.0, layer_decay=1.0),
    "detect_small_data_finetune": dict(**SMALL_OBJECTS, **PLAIN, base_lr=1.28e-2),
    "segment_small_data": dict(**SMALL_SCENES, base_lr=3.2e-2, muon_lr_scale=10.0, layer_decay=1.0),
    "segment_small_data_finetune": dict(**SMALL_SCENES, **PLAIN, base_lr=6.4e-3),
    "depth_small_data": dict(**SMALL_DEPTHS, base_lr=3.2e-2, muon_lr_scale=10.0, layer_decay=1.0),
    "depth_small_data_finetune": dict(**SMALL_DEPTHS, **PLAIN, base_lr=6.4e-3),
}  # fmt: skip

PUBLISHED = {
    "fcmae", "finetune_v2", "intermediate_22k_v2", "finetune_22k_v2", "scratch_v1", "finetune_384_v1",
    "scratch_22k_v1", "finetune_22k_v1", "mask_rcnn_v2", "mask_rcnn_v1", "cascade_v1", "upernet_v2", "upernet_640_v2",
    "upernet_v1", "upernet_640_v1",
}  # fmt: skip


def test_every_recipe_is_in_a_table() -> None:
    assert {*OWN, *PUBLISHED} == set(RECIPES)


@pytest.mark.parametrize("recipe", OWN)
@pytest.mark.parametrize("model", ["convnextv2_atto", "convnext_tiny"])
def test_values(recipe: str, model: str) -> None:
    """They are the same for all models."""
    config = build_config(recipe, model, task_of_recipe(recipe).config)
    assert {name: getattr(config, name) for name in OWN[recipe]} == OWN[recipe]
    assert (config.recipe, config.model) == (recipe, model)


@pytest.mark.parametrize("recipe", sorted(PUBLISHED))
def test_published_recipes_are_for_many_gpus(recipe: str) -> None:
    definition = task_of_recipe(recipe)
    config = build_config(recipe, models_of(recipe)[-1], definition.config)
    assert config.precision == "bf16"
    assert config.workers == (8 if definition.name in ("detect", "segment") else 10)


@pytest.mark.parametrize(
    ("recipe", "model"), [("upernet_640_v1", "convnext_large"), ("upernet_640_v2", "convnextv2_huge")]
)
def test_from_22k_weights_a_segmenter_sees_640_pixels(recipe: str, model: str) -> None:
    config = build_config(recipe, model, task_of_recipe(recipe).config)
    sizes = dict(image_size=640, short_side=640, max_side=2560, test_size=640, window=640, stride=426)
    assert {name: getattr(config, name) for name in sizes} == sizes
    assert config.drop_path == 0.4


def test_the_largest_of_v1_segments_at_a_rate_of_its_own() -> None:
    """8e-5 instead of 1e-4, at a batch of 16."""
    rates = [upernet_640_v1(f"convnext_{size}").base_lr * 16 / 256 for size in ("base", "large", "xlarge")]
    assert rates == pytest.approx([1e-4, 1e-4, 8e-5])


@pytest.mark.parametrize(
    ("recipe", "given", "expected"),
    [
        ("upernet_v1", {"model": "convnext_tiny", "stride": "256"}, {"window": 512, "stride": 256}),
        ("fcmae_digits", {"image_size": "32"}, {"image_size": 32, "patch_size": 8}),
        ("fcmae_digits", {"image_size": 24}, {"image_size": 24, "patch_size": 8}),
    ],
)
def test_options_that_go_together_are_compared_with_the_recipes(
    recipe: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The defaults, which have no window and larger patches, are not what they are trained with."""
    config = given_config(task_of_recipe(recipe), given, recipe)
    assert {name: getattr(config, name) for name in expected} == expected
    with pytest.raises(InputError, match="cannot be 5"):
        given_config(task_of_recipe(recipe), {**given, "model": 5}, recipe)
