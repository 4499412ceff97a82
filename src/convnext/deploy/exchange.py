"""Configuration files that transformers and timm read beside a model's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convnext.data.images.preprocessing import Preprocessing
from convnext.errors import InputError
from convnext.variants import Variant, find_variant
from convnext.weights.architecture import Architecture

RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers of its filters, as transformers writes them."""
WARPS_FROM = 384
"""Image size, in pixels, from which transformers' ConvNeXt processor warps images instead of cropping them."""


@dataclass(frozen=True)
class Described:
    """A network and how it is used; `classes` are empty where it gives embeddings, `has_norm` says whether there is a
    norm after its last stage."""

    architecture: Architecture
    preprocessing: Preprocessing
    classes: list[str]
    descriptions: dict[str, str]
    multi_label: bool
    licence: str | None = None
    has_norm: bool = True

    @property
    def variant(self) -> Variant:
        """The member of the family."""
        return find_variant(self.architecture.variant)

    @property
    def answers(self) -> list[str]:
        """Labels of the outputs: descriptions where classes have them, else the classes' names."""
        return [self.descriptions.get(name, name) for name in self.classes]


def transformers_config(model: Described, layout: str) -> dict[str, Any]:
    """The `config.json` of a ConvNext, ConvNextV2 or ("dinov3") DINOv3ConvNext model."""
    variant, built = model.variant, model.architecture
    kind = "DINOv3ConvNext" if layout == "dinov3" else "ConvNextV2" if variant.version == 2 else "ConvNext"
    config: dict[str, Any] = {
        "architectures": [f"{kind}ForImageClassification" if model.classes else f"{kind}Model"],
        "model_type": {"DINOv3ConvNext": "dinov3_convnext"}.get(kind, kind.lower()),
        "depths": list(variant.depths),
        "hidden_sizes": list(variant.dims),
        "num_channels": built.in_chans,
        "image_size": model.preprocessing.image_size,
        "hidden_act": "gelu",
        "layer_norm_eps": variant.eps,
        "drop_path_rate": 0.0,
        "dtype": "float32",
    }
    if layout == "dinov3":
        if built.stem_patch != 4:
            raise InputError(f"DINOv3's network has a stem patch of 4, and this one of {built.stem_patch}")
    else:
        config |= {"patch_size": built.stem_patch, "num_stages": len(variant.dims)}
    if model.licence:
        config["license"] = model.licence
    if variant.version == 1:
        config["layer_scale_init_value"] = 1e-6 if built.layer_scale else 0.0
    if model.classes:
        config["id2label"] = {str(i): name for i, name in enumerate(model.answers)}
        config["label2id"] = {name: i for i, name in enumerate(model.answers)}
        config["problem_type"] = f"{'multi' if model.multi_label else 'single'}_label_classification"
    return config


def transformers_processor(rule: Preprocessing) -> dict[str, Any]:
    """The `preprocessor_config.json`, of a processor that can state this rule.

    The ConvNeXt processor crops below 384 pixels and warps from there on; for the other two cases ViT's warps, and
    CLIP's crops.
    """
    size, warps = rule.image_size, rule.crop == 1
    common = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "image_mean": list(rule.mean),
        "image_std": list(rule.std),
        "resample": RESAMPLE[rule.interpolation],
    }
    if warps == (size >= WARPS_FROM):
        own = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": size}, "crop_pct": rule.crop}
    elif warps:
        own = {"image_processor_type": "ViTImageProcessor", "size": {"height": size, "width": size}}
    else:
        own = {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": int(size / rule.crop)},
            "do_center_crop": True,
            "crop_size": {"height": size, "width": size},
            "do_convert_rgb": True,
        }
    return own | common


def timm_config(model: Described) -> dict[str, Any]:
    """The `config.json` that timm's models have beside their weights."""
    variant, built, rule = model.variant, model.architecture, model.preprocessing
    size = [built.in_chans, rule.image_size, rule.image_size]
    arguments: dict[str, Any] = {}
    if built.in_chans != 3:
        arguments["in_chans"] = built.in_chans
    if variant.stem == "patch" and built.stem_patch != 4:
        arguments["patch_size"] = built.stem_patch
    if variant.version == 1 and not built.layer_scale:
        arguments["ls_init_value"] = None
    if not model.has_norm:
        arguments["pretrained_strict"] = False  # as timm loads its own copies of FCMAE's weights
    labels: dict[str, Any] = {"label_names": model.classes} if model.classes else {}
    if any(name in model.descriptions for name in model.classes):
        labels["label_descriptions"] = {name: model.descriptions.get(name, name) for name in model.classes}
    return {
        "architecture": variant.name,
        "num_classes": built.num_classes,
        "num_features": variant.head_hidden or variant.dims[-1],
        "global_pool": "avg",
        **({"model_args": arguments} if arguments else {}),
        **labels,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": size,
            "fixed_input_size": False,
            "interpolation": rule.interpolation,
            "crop_pct": rule.crop,
            "crop_mode": "squash" if rule.crop == 1 else "center",
            "mean": list(rule.mean),
            "std": list(rule.std),
            "num_classes": built.num_classes,
            "pool_size": [max(1, rule.image_size // 32)] * 2,
            "first_conv": "stem.0",
            "classifier": "head.fc",
            **({"license": model.licence} if model.licence else {}),
        },
    }
