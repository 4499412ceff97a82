"""Whole detectors and segmenters of mmdetection and mmsegmentation, and of the official ConvNeXt V1, made with them.

Names of necks and heads are one table. What the tensors do not show, how images are seen and answers chosen, is that
of the published configurations: `configs/convnext` and `projects/ConvNeXt-V2` of mmdetection, `object_detection` and
`semantic_segmentation` of facebookresearch/ConvNeXt.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from convnext.errors import WeightsError
from convnext.weights.architecture import describe
from convnext.weights.dense_classes import ADE20K_CLASSES, COCO_CATEGORY_IDS, COCO_CLASSES
from convnext.weights.key_tables import Rule, State
from convnext.weights.layouts import strip_prefix, to_official

BACKBONE_PREFIX = "backbone."

DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
"""Standard deviations of the box targets x, y, width and height at each cascade stage (`target_stds`)."""


def _background_first(rows: Tensor) -> Tensor:
    """Classes are the rows; mmdetection has the background after them, this project before."""
    return torch.roll(rows, 1, dims=0)


# `{i}` `{s}` stand for numbers, `{p}` for weight or bias, `{c}` for a tensor of a convolution or its norm.
_RULES = [
    Rule("norms.{i}.{p}", "backbone.norm{i}.{p}"),
    # Detectors
    Rule("fpn.inner_blocks.{i}.0.{p}", "neck.lateral_convs.{i}.conv.{p}"),
    Rule("fpn.layer_blocks.{i}.0.{p}", "neck.fpn_convs.{i}.conv.{p}"),
    Rule("rpn.head.conv.0.0.{p}", "rpn_head.rpn_conv.{p}"),
    Rule("rpn.head.cls_logits.{p}", "rpn_head.rpn_cls.{p}"),
    Rule("rpn.head.bbox_pred.{p}", "rpn_head.rpn_reg.{p}"),
    Rule("box_stages.{s}.head.convs.{i}.{c}", "roi_head.bbox_head.{s}.shared_convs.{i}.{c}"),
    Rule("box_stages.{s}.head.linear.{i}.{p}", "roi_head.bbox_head.{s}.shared_fcs.{i}.{p}"),
    Rule("box_stages.{s}.head.classify.{p}", "roi_head.bbox_head.{s}.fc_cls.{p}", _background_first),
    Rule("box_stages.{s}.head.box.{p}", "roi_head.bbox_head.{s}.fc_reg.{p}"),
    Rule("mask_heads.{s}.convs.{i}.{c}", "roi_head.mask_head.{s}.convs.{i}.{c}"),
    Rule("mask_heads.{s}.upsample.{p}", "roi_head.mask_head.{s}.upsample.{p}"),
    Rule("mask_heads.{s}.predict.{p}", "roi_head.mask_head.{s}.conv_logits.{p}"),
    # Segmenters
    Rule("pooling.pools.{i}.{c}", "decode_head.psp_modules.{i}.1.{c}"),
    Rule("pooling.fuse.{c}", "decode_head.bottleneck.{c}"),
    Rule("lateral.{i}.{c}", "decode_head.lateral_convs.{i}.{c}"),
    Rule("smooth.{i}.{c}", "decode_head.fpn_convs.{i}.{c}"),
    Rule("fuse.{c}", "decode_head.fpn_bottleneck.{c}"),
    Rule("classify.1.{p}", "decode_head.conv_seg.{p}"),
    Rule("auxiliary.0.{c}", "auxiliary_head.convs.0.{c}"),
    Rule("auxiliary.2.{p}", "auxiliary_head.conv_seg.{p}"),
]
_FIELDS = {
    "i": r"\d+",
    "s": r"\d+",
    "p": "weight|bias",
    "c": r"conv\.(?:weight|bias)|bn\.(?:weight|bias|running_mean|running_var|num_batches_tracked)",
}


def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w)\}", pattern)
    return re.compile("".join(f"(?P<{p}>{_FIELDS[p]})" if n % 2 else re.escape(p) for n, p in enumerate(parts)))


_READERS = [(_regex(rule.foreign), rule) for rule in _RULES]
_ONLY_STAGE = re.compile(r"^(roi_head\.(?:bbox|mask)_head\.)(?!\d)")


def is_openmmlab(names: Collection[str]) -> bool:
    """Whether tensors of these names are a ConvNeXt under a neck or heads of mmdetection or mmsegmentation."""
    return {"backbone.downsample_layers.0.0.weight", "backbone.norm0.weight"} <= set(names)


def own_names(state: State) -> State:
    """Such a `state` under this project's names, and in its shapes; what has no name here stays as it is."""
    if not is_openmmlab(state):
        return state
    backbone, own = {}, {}
    for key, tensor in state.items():
        name, read = _own_name(_ONLY_STAGE.sub(r"\g<1>0.", key))
        if name is None and key.startswith(BACKBONE_PREFIX):
            backbone[key] = tensor
        else:
            own[name or key] = read(tensor) if read and tensor.ndim else tensor
    inside, _ = strip_prefix(backbone)
    return {BACKBONE_PREFIX + key: tensor for key, tensor in to_official(inside).items()} | own


def _own_name(key: str) -> tuple[str | None, Any]:
    for regex, rule in _READERS:
        if found := regex.fullmatch(key):
            fields = {name: value.replace("bn.", "norm.") for name, value in found.groupdict().items()}
            return rule.official.format(**fields), rule.read
    return None, None


def describe_whole(state: State, classes: Collection[str] | None, size: int | None) -> dict[str, Any] | None:
    """Metadata to build and use a detector or segmenter, in the form that this project's runs store.

    Args:
        state: under this project's names (`own_names`).
        classes: what the file says its classes are, if it does.
        size: the image size of published files, in pixels; None for others.

    Returns:
        The metadata; None for a network of another kind, whose backbone alone can be used.

    Raises:
        WeightsError: a ConvNeXt that is not in the family's table, or a network without a part.
    """
    kind = next((kind for sign, kind in _KINDS.items() if any(name.startswith(sign) for name in state)), None)
    if kind is None:
        return None
    backbone = {
        name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in state.items() if name.startswith(BACKBONE_PREFIX)
    }
    model = describe(backbone)
    return {"model": model.variant, **kind(state, model.version, classes, size)}


def _detector(state: State, version: int, classes: Collection[str] | None, size: int | None) -> dict[str, Any]:
    head = "box_stages.0.head."
    count = _rows(state, f"{head}classify.weight") - 1
    if _rows(state, "rpn.head.cls_logits.weight") != 3:
        raise WeightsError("a detector with other than three anchors at a point, which cannot be used here")
    parts = {
        "cascade": "box_stages.1.head.classify.weight" in state,
        "class_agnostic": _rows(state, f"{head}box.weight") == 4 and count > 1,
        "masks": "mask_heads.0.predict.weight" in state,
        "fpn_dim": _rows(state, "rpn.head.conv.0.0.weight"),
        "linear_dim": _rows(state, f"{head}linear.0.weight"),
        "box_convs": _count(state, f"{head}convs."),
        "mask_convs": _count(state, "mask_heads.0.convs."),
        "head_norm": "batch" if f"{head}convs.0.norm.weight" in state else "none",
        "soft_nms": version == 2,
        "round_anchors": False,
        "code_weights": [[1 / deviation for deviation in stage] for stage in DEVIATIONS],
        "roi_samples": 0,
        "size_divisor": 32,
        "average": "logits",
    }
    names = _classes(classes, count, COCO_CLASSES)
    return {
        "task": "detect",
        "classes": names,
        "category_ids": list(COCO_CATEGORY_IDS if names == list(COCO_CLASSES) else range(1, count + 1)),
        "parts": parts,
        # OpenCV's bilinear resizing looks at four pixels, however much smaller the image becomes.
        "transform": {"short": size or 800, "long": 1333, "antialias": False},
        "testing": {"mask_padding": "zeros"},
    }


def _segmenter(state: State, version: int, classes: Collection[str] | None, size: int | None) -> dict[str, Any]:
    count, side = _rows(state, "classify.1.weight"), size or 512
    names = _classes(classes, count, ADE20K_CLASSES)
    return {
        "task": "segment",
        "classes": names,
        "parts": {
            "fpn_dim": _rows(state, "fuse.conv.weight"),
            "aux_dim": _rows(state, "auxiliary.0.conv.weight"),
            "head_norm": "batch",
        },
        "transform": {"short": side, "long": 4 * side, "antialias": False},
        "testing": {"window": side, "stride": None},
        **({"labels": {"ignore_index": 255, "reduce_zero_label": True}} if names == list(ADE20K_CLASSES) else {}),
    }


_KINDS = {"box_stages.": _detector, "rpn.": _detector, "pooling.": _segmenter}


def _rows(state: State, name: str) -> int:
    if name not in state or not state[name].ndim:
        raise WeightsError(f"a network of mmdetection or mmsegmentation without {name}")
    return len(state[name])


def _count(state: State, prefix: str) -> int:
    return sum(name.startswith(prefix) and name.endswith(".conv.weight") for name in state)


def _classes(given: Collection[str] | None, count: int, published: tuple[str, ...]) -> list[str]:
    """The file's own names, those of the published networks, or numbers."""
    if given is not None and len(given) == count:
        return [name.strip() for name in given]  # mmsegmentation has one "bed "
    return list(published) if count == len(published) else [str(i) for i in range(count)]
